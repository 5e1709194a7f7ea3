//! What a record keeps of a request: never so much that a leaf would have no room for it.

use std::collections::BTreeSet;

use writ_core::{Argument, Arguments};

use crate::limits;

/// The path, cut if it is long.
pub(crate) fn path(path: &str) -> String {
    cut(path, limits::RECORDED_PATH_BYTES_MAX)
}

/// The arguments: each text cut if it is long, or if all together are; of a set its first texts.
pub(crate) fn arguments(arguments: &Arguments) -> Arguments {
    let texts: usize = arguments.values().map(texts).sum();
    let share = limits::RECORDED_ARGUMENTS_BYTES_MAX.checked_div(texts).unwrap_or(0);
    let bytes = share.min(limits::RECORDED_ARGUMENT_BYTES_MAX);
    arguments.iter().map(|(name, argument)| (name.clone(), kept(argument, bytes))).collect()
}

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
    format!("{head}...")
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
        let many = (10..40).map(|n| n.to_string()).collect();
        let kept = arguments(&[("s".to_owned(), Argument::Strings(many))].into());
        assert!(kept["s"].to_string().ends_with(r#""25","and 14 more"]"#), "{kept:?}");
        let long = format!("{}é", "x".repeat(limits::RECORDED_ARGUMENT_BYTES_MAX - 1));
        assert_eq!(cut(&long, limits::RECORDED_ARGUMENT_BYTES_MAX), format!("{}...", "x".repeat(255)));
    }
}
