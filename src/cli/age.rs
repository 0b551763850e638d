//! How long ago something was, in words. Pure.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long ago `then` was. What is still to come, by a clock that runs ahead, was just now.
pub(in crate::cli) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", words((now.as_second() - then.as_second()).max(0)))
}

/// A span in the one unit that tells most, as Docker and OpenShift say it. Hours are rounded, all else is cut off.
fn words(seconds: i64) -> String {
    let hours = (seconds + HOUR / 2) / HOUR;
    let days = hours / 24;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", seconds / DAY / 365),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-5, "Less than a second ago")]
    #[case(0, "Less than a second ago")]
    #[case(1, "1 second ago")]
    #[case(5, "5 seconds ago")]
    #[case(59, "59 seconds ago")]
    #[case(60, "About a minute ago")]
    #[case(119, "About a minute ago")]
    #[case(120, "2 minutes ago")]
    #[case(HOUR - 1, "59 minutes ago")]
    #[case(HOUR, "About an hour ago")]
    #[case(HOUR + 29 * MINUTE, "About an hour ago")]
    #[case(HOUR + 30 * MINUTE, "2 hours ago")]
    #[case(47 * HOUR, "47 hours ago")]
    #[case(2 * DAY, "2 days ago")]
    #[case(13 * DAY, "13 days ago")]
    #[case(14 * DAY, "2 weeks ago")]
    #[case(59 * DAY, "8 weeks ago")]
    #[case(60 * DAY, "2 months ago")]
    #[case(729 * DAY, "24 months ago")]
    #[case(730 * DAY, "2 years ago")]
    #[case(3650 * DAY, "10 years ago")]
    fn ages_are_told_in_one_unit(#[case] seconds: i64, #[case] expected: &str) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let then = Timestamp::from_second(1_800_000_000 - seconds).unwrap();
        assert_eq!(ago(then, now), expected);
    }
}
