//! The reader takes and refuses what serde_json does, and gives the same of it.

use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::fuzzing::compare;
use super::*;

#[rstest]
#[case(r#"{"a":[1,-2.5e+3,0,true,false,null,"x",{},[]],"b":{"c":"d"}}"#)]
#[case(" {\r\n\t\"a\" : [ 1 , { } , [ ] ] , \"b\" : { \"c\" : null } } \n")]
#[case(r#""plain, \"quoted\" \\ \/ \b\f\n\r\t \u00e9 \ud83d\ude00 and é, 日本, 😀""#)]
#[case("\"sixteen bytes..\u{7f}\"")]
#[case("0")]
#[case("-0.0")]
#[case("18446744073709551615")]
#[case("1E9")]
#[case("null")]
fn what_is_well_written_is_read_and_passed_over(#[case] text: &str) {
    assert_eq!(compare(text), (true, true));
}

#[rstest]
#[case::nothing("")]
#[case::space(" \n")]
#[case::two("1 2")]
#[case::letters("nul")]
#[case::more_letters("nulll")]
#[case::other_word("none")]
#[case::leading_zero("01")]
#[case::no_digits("-")]
#[case::dot("1.")]
#[case::exponent("1e+")]
#[case::plus("+1")]
#[case::open_string("\"abc")]
#[case::open_long_string("\"0123456789abcdef")]
#[case::control("\"a\nb\"")]
#[case::control_in_eight("\"abcde\u{1f}gh\"")]
#[case::escape(r#""\x""#)]
#[case::short_escape(r#""\u12g4""#)]
#[case::cut_escape(r#""\u12"#)]
#[case::escaped_end(r#""a\""#)]
#[case::open_list("[1")]
#[case::comma_at_the_end("[1,]")]
#[case::comma_at_the_start("[,1]")]
#[case::no_comma("[1 2]")]
#[case::other_bracket("[1}")]
#[case::nested_other_bracket(r#"{"a":[1}}"#)]
#[case::no_colon(r#"{"a" 1}"#)]
#[case::no_value(r#"{"a":}"#)]
#[case::comma_in_object(r#"{"a":1,}"#)]
#[case::no_key("{1:2}")]
#[case::word_as_key("{null:2}")]
#[case::pair_outside(r#""a":1"#)]
#[case::closed("]")]
#[case::form_feed("\u{c}1")]
#[case::byte_order_mark("\u{feff}1")]
#[case::not_ascii_outside("é")]
fn what_is_not_is_refused(#[case] text: &str) {
    assert_eq!(compare(text), (false, false));
}

#[test]
fn half_a_surrogate_is_passed_over_but_not_read() {
    assert_eq!(compare(r#""\ud83d""#), (false, true));
}

#[test]
fn depth_has_an_end() {
    let nested = |depth: usize| format!("{}1{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2));
    assert_eq!(compare(&nested(60)), (true, true));
    assert_eq!(compare(&nested(126)), (true, false));
    assert_eq!(compare(&nested(128)), (false, false));
    assert_eq!(compare(&"[".repeat(1 << 20)), (false, false));
}

#[test]
fn strings_without_escapes_are_lent() {
    let text = r#"{"plain": "é", "escaped": "\u00e9"}"#;
    let read = std::collections::BTreeMap::<&str, Lent>::deserialize(&mut Json::new(text)).unwrap();
    assert_eq!((read["plain"].0, read["escaped"].0), (true, false));
}

/// Whether a string was lent.
struct Lent(bool);

impl<'de> Deserialize<'de> for Lent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl Visitor<'_> for Seen {
            type Value = Lent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Lent, E> {
                Ok(Lent(false))
            }

            fn visit_borrowed_str<E: Error>(self, _: &str) -> Result<Lent, E> {
                Ok(Lent(true))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

#[test]
fn visitor_that_leaves_something_unread_is_refused() {
    struct First;

    impl<'a> Visitor<'a> for First {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
            seq.next_element::<u8>().map(|_| ())
        }
    }

    assert_eq!(Json::new("[1,2]").deserialize_any(First), Err(Unreadable));
    assert_eq!(Json::new("[]").deserialize_any(First), Ok(()));
}

fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        "[ -~é\n\"\\\\]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zé\"]{0,12}", inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_as_it_was_written(value in some_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(compare(&text), (true, true));
    }

    /// One byte of it is another, missing or doubled.
    #[test]
    fn nothing_else_is_read(value in some_json(), at in any::<prop::sample::Index>(), put in "[ -~\n\u{0}]{0,2}") {
        let text = value.to_string();
        let at = text.floor_char_boundary(at.index(text.len()));
        let rest = text[at..].char_indices().nth(1).map_or(text.len(), |(length, _)| at + length);
        compare(&[&text[..at], &put, &text[rest..]].concat());
    }

    #[test]
    fn text_made_of_pieces_of_json_is_read_alike(
        pieces in prop::collection::vec(prop::sample::select(&["{", "}", "[", "]", ",", ":", "\"a\"", "\"", "1", "-", ".", "e", "0",
            "null", "true", " ", "\\", "\\u00e9", "é", "01234567"][..]), 0..12)
    ) {
        let text = pieces.concat();
        let (read, skipped) = compare(&text);
        // Nothing is nested so deep here, and no surrogate is alone: what one takes the other takes.
        prop_assert_eq!(skipped, serde_json::from_str::<IgnoredAny>(&text).is_ok());
        prop_assert_eq!(read, serde_json::from_str::<Value>(&text).is_ok());
    }
}
