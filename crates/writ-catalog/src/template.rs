//! Path templates: their text, and whether a path fits.

use std::collections::BTreeSet;

use writ_core::Arguments;
use writ_core::config::{Setting, Value, Wrong};
use writ_core::service::{PathSegment, PathTemplate};

use crate::path::{Path, Segment};

/// A template as a value of configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(pub(crate) PathTemplate);

impl Setting for Template {
    const EXPECTED: &'static str = "a path template";
    const EXAMPLE: &'static str = "\"/{owner}/{repo}\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        parse(text)
            .map(Self)
            .map_err(|rule| Wrong::content(format!("`{text}` is not a path template: {rule}")))
    }
}

/// Reads a template, or says which rule it breaks.
pub(crate) fn parse(text: &str) -> Result<PathTemplate, &'static str> {
    let rest = text.strip_prefix('/').ok_or("it must begin with `/`")?;
    let segments = rest.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    let (last, before) = segments.split_last().ok_or("it is empty")?;
    if before.iter().any(|segment| matches!(segment, PathSegment::Rest(_))) {
        return Err("`{name...}` may stand at the end only");
    }
    if before.contains(&PathSegment::Literal(String::new())) {
        return Err("it has an empty segment");
    }
    let mut seen = BTreeSet::new();
    if !before.iter().chain([last]).flat_map(names).all(|name| seen.insert(name)) {
        return Err("two arguments have the same name");
    }
    Ok(PathTemplate { text: text.to_owned(), segments })
}

fn segment(text: &str) -> Result<PathSegment, &'static str> {
    let Some(open) = text.strip_prefix('{') else { return literal(text).map(PathSegment::Literal) };
    let (name, suffix) = open.split_once('}').ok_or("a `{` has no `}`")?;
    if let Some(second) = suffix.strip_prefix("%2F{") {
        let second = second.strip_suffix('}').ok_or("after `{x}%2F` comes `{y}` and nothing else")?;
        return Ok(PathSegment::Pair(argument(name)?, argument(second)?));
    }
    if let Some(name) = name.strip_suffix("%2F...") {
        let whole = suffix.is_empty().then_some(()).ok_or("nothing may follow `{name%2F...}` in its segment");
        return whole.and_then(|()| argument(name)).map(PathSegment::Encoded);
    }
    match name.strip_suffix("...") {
        Some(name) if suffix.is_empty() => Ok(PathSegment::Rest(argument(name)?)),
        Some(_) => Err("nothing may follow `{name...}` in its segment"),
        None => Ok(PathSegment::Argument { name: argument(name)?, suffix: literal(suffix)? }),
    }
}

pub(crate) fn argument(name: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err("an argument's name is of a-z, 0-9 and `_`");
    }
    Ok(name.to_owned())
}

/// Literal text is compared with decoded segments; what could never occur there is refused.
fn literal(text: &str) -> Result<String, &'static str> {
    if text.contains(['{', '}']) {
        return Err("an argument must begin its segment, and one segment has one argument");
    }
    if text.contains(['%', '?', '#', ';', '\\']) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("literal text is of visible ASCII without `%`, `?`, `#`, `;`, `\\`; write it decoded");
    }
    if text == "." || text == ".." {
        return Err("it has a dot segment");
    }
    Ok(text.to_owned())
}

/// The arguments of a segment.
fn names(segment: &PathSegment) -> Vec<&str> {
    match segment {
        PathSegment::Literal(_) => vec![],
        PathSegment::Argument { name, .. } | PathSegment::Encoded(name) | PathSegment::Rest(name) => {
            vec![name]
        }
        PathSegment::Pair(first, second) => vec![first, second],
    }
}

/// The arguments of a template.
pub(crate) fn arguments(template: &PathTemplate) -> BTreeSet<&str> {
    template.segments.iter().flat_map(names).collect()
}

/// Whether the path fits. From the end, where the rules of one service differ soonest.
pub(crate) fn fits(template: &PathTemplate, path: &Path<'_>) -> bool {
    let segments = path.segments();
    if let Some((PathSegment::Rest(_), before)) = template.segments.split_last() {
        let Some((head, rest)) = segments.split_at_checked(before.len()) else { return false };
        // At least one segment that is not empty; a slash at the end is kept as part of the value.
        let named = rest.first().and_then(Segment::plain).is_some_and(|text| !text.is_empty());
        return named && rest.iter().all(|segment| segment.plain().is_some()) && fit(before, head);
    }
    template.segments.len() == segments.len() && fit(&template.segments, segments)
}

fn fit(pattern: &[PathSegment], segments: &[Segment<'_>]) -> bool {
    pattern.iter().zip(segments).rev().all(|(want, segment)| match want {
        PathSegment::Literal(text) => segment.plain() == Some(text),
        PathSegment::Argument { suffix, .. } => {
            segment.plain().is_some_and(|text| text.len() > suffix.len() && text.ends_with(suffix.as_str()))
        }
        PathSegment::Pair(..) => segment.pair().is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()),
        PathSegment::Encoded(_) => segment.parts().next().is_some_and(|first| !first.is_empty()),
        PathSegment::Rest(_) => false,
    })
}

/// The values of the template's arguments in a path that fits.
pub(crate) fn values(template: &PathTemplate, path: &Path<'_>) -> Arguments {
    let mut values = Arguments::new();
    for (want, (n, segment)) in template.segments.iter().zip(path.segments().iter().enumerate()) {
        match want {
            PathSegment::Literal(_) => {}
            PathSegment::Argument { name, suffix } => {
                let value = segment.plain().and_then(|text| text.strip_suffix(suffix.as_str()));
                values.insert(name.clone(), value.unwrap_or_default().into());
            }
            PathSegment::Pair(first, second) => {
                let (a, b) = segment.pair().unwrap_or_default();
                values.insert(first.clone(), a.into());
                values.insert(second.clone(), b.into());
            }
            PathSegment::Encoded(name) => {
                values.insert(name.clone(), segment.parts().collect::<Vec<_>>().join("/").into());
            }
            PathSegment::Rest(name) => {
                let rest = path.segments().get(n..).unwrap_or_default();
                let rest: Vec<&str> = rest.iter().filter_map(Segment::plain).collect();
                values.insert(name.clone(), rest.join("/").into());
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use writ_core::Argument;

    use super::*;

    fn matched(template: &str, path: &str) -> Option<Vec<(String, Argument)>> {
        let (template, path) = (parse(template).unwrap(), Path::parse(path).unwrap());
        fits(&template, &path).then(|| values(&template, &path).into_iter().collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, Argument)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).into())).collect()
    }

    #[test]
    fn templates_match_whole_paths_and_keep_arguments() {
        assert_eq!(matched("/", "/"), Some(pairs(&[])));
        assert_eq!(matched("/a/{x}", "/a/b%20c"), Some(pairs(&[("x", "b c")])));
        assert_eq!(
            matched("/{o}/{r}.git/info", "/me/site.git/info"),
            Some(pairs(&[("o", "me"), ("r", "site")]))
        );
        assert_eq!(matched("/f/{p...}", "/f/a/b/c"), Some(pairs(&[("p", "a/b/c")])));
        assert_eq!(matched("/f/{p...}", "/f/a/"), Some(pairs(&[("p", "a/")])));
        for (path, value) in [("/o/a", "a"), ("/o/a%2Fb%2fc", "a/b/c"), ("/o/a%2F", "a/")] {
            assert_eq!(matched("/o/{p%2F...}", path), Some(pairs(&[("p", value)])));
        }
        assert_eq!(matched("/s/{p}/", "/s/x/"), Some(pairs(&[("p", "x")])));
        assert_eq!(matched("/{scope}%2F{name}", "/@a%2fb"), Some(pairs(&[("name", "b"), ("scope", "@a")])));
    }

    #[test]
    fn near_misses_do_not_match() {
        for (template, path) in [
            ("/", "/a"),
            ("/a", "/"),
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/a/{x}", "/a"),
            ("/a/{x}", "/a/"),
            ("/a/{x}", "/a/b/c"),
            ("/{r}.git", "/.git"),
            ("/{r}.git", "/a.GIT"),
            ("/f/{p...}", "/f"),
            ("/f/{p...}", "/f/"),
            ("/{x}", "/a%2Fb"),
            ("/{p...}", "/a%2Fb"),
            ("/{a}%2F{b}", "/a/b"),
            ("/{a}%2F{b}", "/a%2F"),
            ("/{a}%2F{b}", "/%2Fb"),
            ("/{a}%2F{b}", "/a%2Fb%2Fc"),
            ("/o/{x%2F...}", "/o/"),
            ("/o/{x%2F...}", "/o/%2Fa"),
            ("/o/{x%2F...}", "/o/a/b"),
        ] {
            assert_eq!(matched(template, path), None, "{template} {path}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in [
            "",
            "a",
            "//",
            "/a//b",
            "/{",
            "/{x",
            "/{}",
            "/{X}",
            "/x{y}",
            "/{x}{y}",
            "/{x...}/a",
            "/{x...}.git",
            "/a?b",
            "/a#b",
            "/%41",
            "/a\\b",
            "/é",
            "/..",
            "/.",
            "/{x}/{x}",
            "/{x}%2f{y}",
            "/{x}%2F{x}",
            "/{x}%2F{y}.z",
            "/{x%2F...}.z",
            "/{X%2F...}",
            "/a;b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
