//! Any file is read or refused with a place in it; a stream that was read can be written, read again and indexed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstream::index::IndexedStream;
use pinstream::store::documents::{self, Format, Item};
use pinstream::stream::ImageStream;
use pinstream::stream::places::Places;

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let format = if choice % 2 == 0 { Format::Yaml } else { Format::Json };
    let result = documents::read(text, format, |item, place| {
        assert!(place.document >= 1 && place.line >= 1);
        let Item::Stream(stream) = item else { return };
        let written = serde_json::to_string(&*stream).expect("a stream has a JSON form");
        let again: ImageStream = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_string(&again).expect("a stream has a JSON form"), written);
        let _ = IndexedStream::new(&stream, &Places::at_host(Some("r.io")));
    });
    if let Err(error) = result {
        // YAML lets a line end in a carriage return alone.
        let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
        assert!(error.place.line <= lines.max(1) + 1, "{error}");
    }
});
