//! Where the nodes of a YAML document stand in its text.

use std::ops::Range;

use granit_parser::{Event, Parser, Span, StructureStyle};

use super::EditError;

/// A node of a YAML document.
pub(super) struct Node {
    /// Where its own bytes are; of a block, those of its children.
    pub(super) span: Range<usize>,
    pub(super) column: usize,
    pub(super) content: Content,
}

pub(super) enum Content {
    Other,
    Mapping { is_flow: bool, entries: Vec<(String, usize, Node)> },
    Sequence(Vec<Node>),
}

/// Reads the nodes of a document.
pub(super) struct Reader<'text> {
    pub(super) parser: Parser<'text, granit_parser::StrInput<'text>>,
}

impl<'text> Reader<'text> {
    /// The next event that is not a comment, and where it stands.
    pub(super) fn next(&mut self) -> Result<(Event<'text>, Span), EditError> {
        loop {
            let event = self.parser.next_event().ok_or_else(|| EditError::Form("it ends too soon".to_owned()))?;
            let (event, span) = event.map_err(|error| EditError::Form(error.to_string()))?;
            let is_content = !matches!(event, Event::Comment(..) | Event::StreamStart | Event::DocumentStart(..));
            if is_content {
                return Ok((event, span));
            }
        }
    }

    /// The node that an event begins.
    pub(super) fn node(&mut self, event: &Event<'text>, span: &Span) -> Result<Node, EditError> {
        let bytes = span.byte_range().unwrap_or_default();
        let column = span.start.col();
        match event {
            Event::MappingStart(style, ..) => self.mapping(*style == StructureStyle::Flow, bytes, column),
            Event::SequenceStart(style, ..) => self.sequence(*style == StructureStyle::Flow, bytes, column),
            Event::StreamEnd | Event::DocumentEnd => Err(EditError::Nothing("object".to_owned())),
            _ => Ok(Node { span: bytes, column, content: Content::Other }),
        }
    }

    fn mapping(&mut self, is_flow: bool, mut span: Range<usize>, mut column: usize) -> Result<Node, EditError> {
        let mut entries: Vec<(String, usize, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                let end = at.byte_range().unwrap_or_default().end;
                span.end = if is_flow { end } else { entries.last().map_or(span.end, |(_, _, last)| last.span.end) };
                return Ok(Node { span, column, content: Content::Mapping { is_flow, entries } });
            }
            let key = self.node(&event, &at)?;
            if entries.is_empty() && !is_flow {
                column = key.column;
            }
            let name = event.scalar().map(|(name, _)| name.to_owned()).unwrap_or_default();
            let (event, at) = self.next()?;
            let value = self.node(&event, &at)?;
            entries.push((name, key.span.start, value));
        }
    }

    fn sequence(&mut self, is_flow: bool, mut span: Range<usize>, column: usize) -> Result<Node, EditError> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                let end = at.byte_range().unwrap_or_default().end;
                span.end = if is_flow { end } else { items.last().map_or(span.end, |last| last.span.end) };
                return Ok(Node { span, column, content: Content::Sequence(items) });
            }
            items.push(self.node(&event, &at)?);
        }
    }
}

/// The value of a field.
pub(super) fn child(node: Node, name: &str) -> Result<Node, EditError> {
    let Content::Mapping { entries, .. } = node.content else {
        return Err(EditError::Nothing(format!("field {name}")));
    };
    let found = entries.into_iter().find(|(found, _, _)| found == name);
    found.map(|(_, _, value)| value).ok_or_else(|| EditError::Nothing(format!("field {name}")))
}
