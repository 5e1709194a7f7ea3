//! The rules of one service, indexed, so that a request is compared with the few that could fit.
//!
//! Rules whose templates have their literal segments at the same places form a shape; within a shape, the hash of these
//! segments leads to the rules. The index only proposes: every candidate is then compared in full, in the order of
//! the file, so that the result is that of trying each rule in turn.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use writ_core::Service;
use writ_core::service::{OperationRule, PathSegment};

use crate::path::{Path, Segment};

/// An index over the rules of a service.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Shape>);

#[derive(Debug)]
struct Shape {
    /// How many segments a path must have; at least so many if the shape is open.
    segments: usize,
    /// Whether it ends in `{name...}`.
    open: bool,
    /// Which segments are literal, in ascending order.
    literal: Vec<usize>,
    /// Places of rules in the service, ascending, by the hash of their literal segments.
    rules: HashMap<u64, Vec<usize>>,
}

impl Rules {
    /// Indexes the rules of a service.
    pub(crate) fn new(service: &Service) -> Self {
        let mut index = Self::default();
        for (place, rule) in service.operations.iter().enumerate() {
            index.add(place, rule);
        }
        index
    }

    fn add(&mut self, place: usize, rule: &Arc<OperationRule>) {
        let template = &rule.path.segments;
        let open = matches!(template.last(), Some(PathSegment::Rest(_)));
        let literals = template.iter().enumerate().filter_map(|(n, segment)| match segment {
            PathSegment::Literal(text) => Some((n, text.as_str())),
            PathSegment::Argument { .. }
            | PathSegment::Pair(..)
            | PathSegment::Encoded(_)
            | PathSegment::Rest(_) => None,
        });
        let (literal, texts): (Vec<usize>, Vec<&str>) = literals.unzip();
        let key = hash(texts.into_iter());
        let known = |s: &&mut Shape| s.segments == template.len() && s.open == open && s.literal == literal;
        if let Some(shape) = self.0.iter_mut().find(known) {
            shape.rules.entry(key).or_default().push(place);
            return;
        }
        let rules = HashMap::from([(key, vec![place])]);
        self.0.push(Shape { segments: template.len(), open, literal, rules });
    }

    /// The places of the rules that could cover the path, in the order of the file.
    pub(crate) fn candidates(&self, path: &Path<'_>) -> Vec<usize> {
        let segments = path.segments();
        let mut found = Vec::new();
        for shape in &self.0 {
            let fits = segments.len() == shape.segments || shape.open && segments.len() > shape.segments;
            if fits {
                let texts = shape.literal.iter().filter_map(|n| segments.get(*n).and_then(Segment::plain));
                found.extend(shape.rules.get(&hash(texts)).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found
    }
}

fn hash<'s>(texts: impl Iterator<Item = &'s str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    texts.for_each(|text| text.hash(&mut hasher));
    hasher.finish()
}
