//! An audit as JUnit's XML, which pipelines read: a suite for each namespace, a case for each container. Pure.

use std::fmt::Write as _;

use super::report::{Entry, Report};

/// All suites. A container in a state of this rank or a worse one is a failure.
pub(super) fn suites(report: &Report, rank: usize) -> String {
    let (total, failures) = (report.total(), report.count_from(rank));
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pinstream audit\" tests=\"{total}\" \
         failures=\"{failures}\">\n"
    );
    for namespace in report.namespaces.keys() {
        let entries: Vec<_> = report.current_of(namespace).iter().chain(report.findings_of(namespace)).collect();
        let failures = entries.iter().filter(|entry| entry.rank >= rank).count();
        let name = escaped(namespace);
        let _ = writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\">", entries.len());
        xml.extend(entries.iter().map(|entry| case(entry, entry.rank >= rank)));
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn case(entry: &Entry, fails: bool) -> String {
    let class = escaped(&format!("{}.{}", entry.namespace, entry.object));
    let name = escaped(&format!("{} {}", entry.container, entry.image));
    if !fails {
        return format!("    <testcase classname=\"{class}\" name=\"{name}\"/>\n");
    }
    let place = entry.spot.as_ref().map(|spot| format!("{}:{}: ", spot.file, spot.line)).unwrap_or_default();
    // Some show the attribute and some the text.
    let text = escaped(&format!("{place}{}", entry.sentence()));
    format!(
        "    <testcase classname=\"{class}\" name=\"{name}\">\n      <failure type=\"{state}\" message=\"{text}\">{text}\
         </failure>\n    </testcase>\n",
        state = entry.state
    )
}

/// A text, in an attribute too. What XML cannot hold is replaced.
fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\t' | '\n' | '\r' => format!("&#{};", u32::from(letter)),
        letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => '\u{fffd}'.to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_markup_or_no_text_of_xml_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\n\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{fffd}");
    }
}
