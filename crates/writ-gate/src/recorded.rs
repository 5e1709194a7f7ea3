//! What a record keeps of a request: never so much that a leaf would have no room for it.

use std::collections::BTreeSet;

use writ_core::{Argument, Arguments};

use crate::limits;

/// The path, cut if it is long.
pub(crate) fn path(path: &str) -> String {
    cut(path, limits::RECORDED_PATH_BYTES_MAX)
}

/// The groups, all or none: with some of them policy would be asked another question.
pub(crate) fn groups(groups: &[String]) -> Option<Vec<String>> {
    let bytes: usize = groups.iter().map(|group| group.len() + "\"\",".len()).sum();
    (bytes <= limits::RECORDED_GROUPS_BYTES_MAX).then(|| groups.to_vec())
}

/// The arguments: each text cut if it is long, or if all together are; of a set its first texts.
pub(crate) fn arguments(arguments: &Arguments) -> Arguments {
    let texts: usize = arguments.values().map(texts).sum();
    let share = limits::RECORDED_ARGUMENTS_BYTES_MAX.checked_div(texts).unwrap_or(0);
    let bytes = share.min(limits::RECORDED_ARGUMENT_BYTES_MAX);
    arguments.iter().map(|(name, argument)| (name.clone(), kept(argument, bytes))).collect()
}

/// Whether these are surely the arguments that the request had, and not what [`arguments`] left of them. What could be
/// either is not whole.
pub(crate) fn is_whole(recorded: &Arguments) -> bool {
    // A cut set has at most this many texts more than it shows, so no text was cut to less than this share.
    let at_most = |argument: &Argument| match argument {
        Argument::Strings(texts) if texts.iter().any(|text| text.ends_with(CUT)) => {
            limits::RECORDED_STRINGS_MAX
        }
        Argument::Strings(_) | Argument::String(_) | Argument::Integer(_) | Argument::Boolean(_) => {
            texts(argument)
        }
    };
    let texts: usize = recorded.values().map(at_most).sum();
    let share = limits::RECORDED_ARGUMENTS_BYTES_MAX.checked_div(texts).unwrap_or(0);
    let bytes = share.min(limits::RECORDED_ARGUMENT_BYTES_MAX);
    // The longest character has four bytes, so a cut may leave three less.
    let is_cut = |text: &String| text.strip_suffix(CUT).is_some_and(|head| head.len() + 3 >= bytes);
    let counts = |text: &String| {
        let number = text.strip_prefix("and ").and_then(|text| text.strip_suffix(" more"));
        number.is_some_and(|number| number.parse::<usize>().is_ok())
    };
    !recorded.values().any(|argument| match argument {
        Argument::String(text) => is_cut(text),
        Argument::Strings(texts) => texts.iter().any(|text| is_cut(text) || counts(text)),
        Argument::Integer(_) | Argument::Boolean(_) => false,
    })
}

/// What a cut text ends in.
const CUT: &str = "...";

fn texts(argument: &Argument) -> usize {
    match argument {
        Argument::String(_) => 1,
        Argument::Strings(texts) => texts.len().min(limits::RECORDED_STRINGS_MAX),
        Argument::Integer(_) | Argument::Boolean(_) => 0,
    }
}

fn kept(argument: &Argument, bytes: usize) -> Argument {
    match argument {
        Argument::String(text) => Argument::String(cut(text, bytes)),
        Argument::Strings(texts) => {
            let first = texts.iter().take(limits::RECORDED_STRINGS_MAX).map(|text| cut(text, bytes));
            let mut kept: BTreeSet<String> = first.collect();
            let more = texts.len().saturating_sub(limits::RECORDED_STRINGS_MAX);
            if more > 0 {
                kept.insert(format!("and {more} more"));
            }
            Argument::Strings(kept)
        }
        Argument::Integer(_) | Argument::Boolean(_) => argument.clone(),
    }
}

fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let (head, _) = text.split_at_checked(text.floor_char_boundary(bytes)).unwrap_or((text, ""));
    format!("{head}{CUT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_a_leaf_has_room_for_it() {
        let worst = "\u{1}".repeat(70_000);
        let set = || (0..limits::ARGUMENT_STRINGS_MAX).map(|n| format!("{n}{worst}")).collect();
        let asked: Arguments =
            (0..limits::ARGUMENTS_MAX).map(|n| (format!("a{n}"), Argument::Strings(set()))).collect();
        // An argument prints as the JSON that the leaf has.
        let bytes: usize = arguments(&asked).values().map(|kept| kept.to_string().len()).sum();
        assert!(bytes < limits::LEAF_BYTES_MAX / 2, "{bytes}");
        let kept = arguments(&[("a".to_owned(), worst.into())].into())["a"].to_string();
        assert!(kept.ends_with("...\"") && kept.len() < 2_000, "{kept}");
    }

    #[test]
    fn what_is_short_is_kept_as_it_is_and_what_is_cut_says_so() {
        let short: Arguments = [
            ("n".to_owned(), Argument::Integer(-3)),
            ("s".to_owned(), Argument::Strings(["b", "a"].map(str::to_owned).into())),
            ("t".to_owned(), "é".into()),
            ("y".to_owned(), Argument::Boolean(true)),
        ]
        .into();
        assert_eq!(arguments(&short), short);
        assert!(is_whole(&short));
        let many = (10..40).map(|n| n.to_string()).collect();
        let kept = arguments(&[("s".to_owned(), Argument::Strings(many))].into());
        assert!(kept["s"].to_string().ends_with(r#""25","and 14 more"]"#), "{kept:?}");
        let long = format!("{}é", "x".repeat(limits::RECORDED_ARGUMENT_BYTES_MAX - 1));
        assert_eq!(cut(&long, limits::RECORDED_ARGUMENT_BYTES_MAX), format!("{}...", "x".repeat(255)));
    }

    #[test]
    fn what_may_be_less_than_the_request_had_is_not_whole() {
        let long = "x".repeat(limits::RECORDED_ARGUMENT_BYTES_MAX + 1);
        let wide = "\u{10348}".repeat(limits::RECORDED_ARGUMENT_BYTES_MAX);
        let set = |texts: Vec<String>| Argument::Strings(texts.into_iter().collect());
        let asked = [
            vec![Argument::String(long.clone())],
            vec![Argument::String(wide)],
            vec![set((0..40).map(|n| n.to_string()).collect())],
            vec![set((0..16).map(|n| format!("{n}{long}")).collect())],
            // Many, so that each has a small share; and a set of which cutting leaves one text.
            (0..32).map(|_| Argument::String("y".repeat(130))).collect(),
            (0..32).map(|_| set((0..16).map(|n| format!("{long}{n}")).collect())).collect(),
        ];
        for asked in asked {
            let asked: Arguments = (0..).zip(asked).map(|(n, a): (u32, _)| (format!("a{n}"), a)).collect();
            let kept = arguments(&asked);
            assert!(kept != asked && !is_whole(&kept), "{kept:?}");
        }
        let whole: Arguments = [("title".to_owned(), "to be continued...".into())].into();
        assert!(is_whole(&whole), "an end in points alone does not make it cut");
    }

    #[test]
    fn groups_are_recorded_all_or_not_at_all() {
        let few = vec!["unix:dev".to_owned()];
        assert_eq!(groups(&few), Some(few));
        assert_eq!(groups(&[]), Some(Vec::new()));
        assert_eq!(groups(&["g".repeat(limits::RECORDED_GROUPS_BYTES_MAX)]), None);
    }
}
