//! How long a registry wants to be left alone, as the headers of its answers say. Pure.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// A registry that wants more patience gets this much.
const PATIENCE_MAX: Duration = Duration::from_hours(1);
/// How long one is left alone that refuses and does not say for how long.
const PATIENCE_UNSAID: Duration = Duration::from_secs(30);

/// For how long, if it refused for that reason.
pub(super) fn limited(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let said = retry_after(headers, now).map(|wait| wait.min(PATIENCE_MAX));
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(said.unwrap_or(PATIENCE_UNSAID)),
        StatusCode::SERVICE_UNAVAILABLE => said,
        _ => None,
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// How long until there are requests again, if this was the last: `RateLimit-Remaining` and `RateLimit-Reset`, with `X-`
/// before them too, or `RateLimit` with both in one, as drafts of the standard have had them.
pub(super) fn used_up(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let both = |prefix: &str| {
        let number = |name: &str| leading_number(text(headers, &format!("{prefix}-{name}"))?);
        Some((number("remaining")?, number("reset")?))
    };
    let (remaining, reset) = both("ratelimit").or_else(|| both("x-ratelimit")).or_else(|| combined(headers))?;
    (remaining == 0).then(|| until(reset, now).min(PATIENCE_MAX))
}

/// `limit=100, remaining=0, reset=50`, or `"policy";r=0;t=50`.
fn combined(headers: &HeaderMap) -> Option<(u64, u64)> {
    let value = text(headers, "ratelimit")?;
    let number = |names: [&str; 2]| {
        let mut fields = value.split([',', ';']).filter_map(|field| field.trim().split_once('='));
        leading_number(fields.find(|(name, _)| names.contains(&name.trim()))?.1)
    };
    Some((number(["remaining", "r"])?, number(["reset", "t"])?))
}

/// Some give seconds, some a time in seconds since 1970.
fn until(reset: u64, now: Timestamp) -> Duration {
    let since_epoch = u64::try_from(now.as_second()).unwrap_or_default();
    Duration::from_secs(if reset >= since_epoch / 2 { reset.saturating_sub(since_epoch) } else { reset })
}

/// `100` of `100;w=21600`.
fn leading_number(text: &str) -> Option<u64> {
    text.split([';', ',']).next()?.trim().parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// 2026-11-24T12:00:00Z.
    const NOW: i64 = 1_795_521_600;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[rstest]
    #[case(429, Some("120"), Some(120))]
    #[case(429, Some("Tue, 24 Nov 2026 12:01:00 GMT"), Some(60))]
    #[case(429, Some("Tue, 24 Nov 2026 11:00:00 GMT"), Some(0))]
    #[case(429, Some("soon"), Some(30))]
    #[case(429, Some("99999999999999999"), Some(3600))]
    #[case(429, None, Some(30))]
    #[case(503, Some("7"), Some(7))]
    #[case(503, None, None)]
    #[case(500, Some("7"), None)]
    fn patience_that_is_asked_for(
        #[case] status: u16,
        #[case] value: Option<&'static str>,
        #[case] seconds: Option<u64>,
    ) {
        let headers = headers(&value.map(|value| ("retry-after", value)).into_iter().collect::<Vec<_>>());
        let found = limited(StatusCode::from_u16(status).unwrap(), &headers, now());
        assert_eq!(found, seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(&[("ratelimit-remaining", "0;w=21600"), ("ratelimit-reset", "60")], Some(60))]
    #[case(&[("ratelimit-remaining", "5;w=21600"), ("ratelimit-reset", "60")], None)]
    #[case(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795521630")], Some(30))]
    #[case(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795521000")], Some(0))]
    #[case(&[("ratelimit", "limit=100, remaining=0, reset=50")], Some(50))]
    #[case(&[("ratelimit", "\"pulls\";r=0;t=50")], Some(50))]
    #[case(&[("ratelimit", "\"pulls\";r=3;t=50")], None)]
    #[case(&[("ratelimit-remaining", "0")], None)]
    #[case(&[("ratelimit-remaining", "none"), ("ratelimit-reset", "")], None)]
    #[case(&[], None)]
    fn last_request_of_a_window_is_seen(#[case] pairs: &[(&'static str, &'static str)], #[case] seconds: Option<u64>) {
        assert_eq!(used_up(&headers(pairs), now()), seconds.map(Duration::from_secs));
    }
}
