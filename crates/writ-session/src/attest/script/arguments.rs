//! What the arguments of an interpreter say it runs. A claim: used to find a file, and never believed by itself.
//!
//! Pure. When in doubt it says nothing: an option that is not known and takes a value would make the value look like the
//! script, and then the file of that name is digested, which matches nothing.

use super::Interpreter;

/// What an interpreter says it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Claim {
    /// A file.
    File(String),
    /// A Python module.
    Module(String),
}

/// How one interpreter reads its options.
struct Grammar {
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options after which no file is named: the program is in the arguments or on standard input.
    inline: &'static [&'static str],
    /// Words before the script: `deno run x.ts`.
    commands: &'static [&'static str],
    /// The option after which the file comes: `java -jar`. Without it there is none.
    introduced_by: Option<&'static str>,
}

const NODE: Grammar = Grammar {
    valued: &[
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
        "--title",
        "--env-file",
        "--env-file-if-exists",
        "--inspect-port",
        "--input-type",
        "--icu-data-dir",
        "--openssl-config",
        "--diagnostic-dir",
        "--redirect-warnings",
        "--stack-trace-limit",
        "--max-http-header-size",
        "--dns-result-order",
        "--watch-path",
    ],
    inline: &[
        "-e",
        "--eval",
        "-p",
        "--print",
        "-pe",
        "-c",
        "--check",
        "-i",
        "--interactive",
        "--test",
        "--run",
        "-",
    ],
    commands: &["inspect"],
    introduced_by: None,
};
const BUN: Grammar = Grammar {
    valued: &[
        "-r",
        "--preload",
        "--import",
        "--env-file",
        "--cwd",
        "-c",
        "--config",
        "--tsconfig-override",
        "-d",
        "--define",
        "--port",
    ],
    inline: &["-e", "--eval", "-p", "--print", "-", "x", "install", "add", "test", "build", "repl"],
    commands: &["run"],
    introduced_by: None,
};
const DENO: Grammar = Grammar {
    valued: &[
        "-c",
        "--config",
        "--import-map",
        "--lock",
        "--cert",
        "--seed",
        "-L",
        "--log-level",
        "--location",
        "--preload",
        "--import",
    ],
    inline: &["eval", "repl", "test", "task", "install", "-"],
    commands: &["run", "serve"],
    introduced_by: None,
};
const RUBY: Grammar = Grammar {
    valued: &["-I", "-r", "-C", "-E", "-x", "--encoding", "--external-encoding", "--internal-encoding"],
    inline: &["-e", "-", "-S"],
    commands: &[],
    introduced_by: None,
};
const PERL: Grammar =
    Grammar { valued: &["-I"], inline: &["-e", "-E", "-"], commands: &[], introduced_by: None };
const JAVA: Grammar = Grammar {
    valued: &[
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--add-modules",
        "--add-opens",
        "--add-exports",
        "--add-reads",
        "--upgrade-module-path",
        "--limit-modules",
        "--enable-native-access",
    ],
    inline: &[],
    commands: &[],
    introduced_by: Some("-jar"),
};
const SHELL: Grammar = Grammar {
    valued: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
    inline: &["-c", "-s", "-", "-i"],
    commands: &[],
    introduced_by: None,
};

/// What these arguments say, the program's name first.
pub(in super::super) fn claim(interpreter: Interpreter, arguments: &[&[u8]]) -> Option<Claim> {
    let words: Vec<&str> =
        arguments.iter().map(|word| std::str::from_utf8(word).ok()).collect::<Option<_>>()?;
    let words = words.get(1..)?;
    match interpreter {
        Interpreter::Python => python(words),
        Interpreter::Node => file(&NODE, words),
        Interpreter::Bun => file(&BUN, words),
        Interpreter::Deno => file(&DENO, words),
        Interpreter::Ruby => file(&RUBY, words),
        Interpreter::Perl => file(&PERL, words),
        Interpreter::Java => file(&JAVA, words),
        Interpreter::Shell => file(&SHELL, words),
        Interpreter::Env | Interpreter::Other => None,
    }
}

fn file(grammar: &Grammar, words: &[&str]) -> Option<Claim> {
    let mut words = words.iter().copied();
    let mut introduced = grammar.introduced_by.is_none();
    let mut commands = grammar.commands;
    while let Some(word) = words.next() {
        if grammar.inline.contains(&word) || clustered_inline(grammar, word) {
            return None;
        }
        if Some(word) == grammar.introduced_by {
            introduced = true;
        } else if grammar.valued.contains(&word) {
            words.next();
        } else if word == "--" {
            return words.next().filter(|_| introduced).map(|word| Claim::File(word.to_owned()));
        } else if commands.contains(&word) {
            commands = &[];
        } else if !word.is_empty() && !word.starts_with(['-', '+']) {
            return introduced.then(|| Claim::File(word.to_owned()));
        }
    }
    None
}

/// `sh -ec CODE`, `perl -we CODE`: several short options in one word, the last one with code after it.
fn clustered_inline(grammar: &Grammar, word: &str) -> bool {
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) else {
        return false;
    };
    let short = |option: &&&str| option.len() == 2;
    grammar.introduced_by.is_none()
        && letters.chars().all(char::is_alphanumeric)
        && grammar
            .inline
            .iter()
            .filter(short)
            .any(|option| option.strip_prefix('-').is_some_and(|o| letters.ends_with(o)))
}

/// `python3 --help`: options of one letter may stand together; `-c`, `-m`, `-W` and `-X` take the rest of the word or the
/// next one, and `-c` and `-m` end the options.
fn python(words: &[&str]) -> Option<Claim> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--check-hash-based-pycs" {
            words.next();
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) else {
            if word.starts_with("--") || word.is_empty() {
                continue;
            }
            return Some(Claim::File(word.to_owned()));
        };
        if letters.is_empty() {
            return None;
        }
        let Some(at) = letters.find(['c', 'm', 'W', 'X']) else { continue };
        let (_, from) = letters.split_at(at);
        let rest = from.get(1..).filter(|rest| !rest.is_empty());
        let value = rest.or_else(|| words.next());
        match from.chars().next() {
            Some('m') => return value.map(|module| Claim::Module(module.to_owned())),
            Some('c') => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lead_to_the_file_or_to_nothing() {
        let file = |path: &str| Some(Claim::File(path.to_owned()));
        let module = |name: &str| Some(Claim::Module(name.to_owned()));
        let cases = [
            (Interpreter::Python, "python3 tool.py -m x", file("tool.py")),
            (Interpreter::Python, "python3 -Im http.server 80", module("http.server")),
            (Interpreter::Python, "python3 -mhttp.server", module("http.server")),
            (Interpreter::Python, "python3 -W error -X dev -u t.py", file("t.py")),
            (Interpreter::Python, "python3 -c x t.py", None),
            (Interpreter::Python, "python3 -Bc x t.py", None),
            (Interpreter::Python, "python3 - t.py", None),
            (Interpreter::Python, "python3", None),
            (Interpreter::Node, "node --require a.js --no-warnings main.js", file("main.js")),
            (Interpreter::Node, "node -e 1 main.js", None),
            (Interpreter::Node, "node -pe 1 main.js", None),
            (Interpreter::Node, "node -- main.js", file("main.js")),
            (Interpreter::Deno, "deno run --allow-net main.ts", file("main.ts")),
            (Interpreter::Deno, "deno eval main.ts", None),
            (Interpreter::Bun, "bun run x.ts", file("x.ts")),
            (Interpreter::Bun, "bun x cowsay", None),
            (Interpreter::Perl, "perl -w -I lib t.pl", file("t.pl")),
            (Interpreter::Perl, "perl -we x t.pl", None),
            (Interpreter::Ruby, "ruby -rjson t.rb", file("t.rb")),
            (Interpreter::Java, "java -cp a.jar Main", None),
            (Interpreter::Java, "java -Xmx1g -jar a.jar b", file("a.jar")),
            (Interpreter::Shell, "sh -e run.sh", file("run.sh")),
            (Interpreter::Shell, "bash -ec x run.sh", None),
            (Interpreter::Shell, "bash +o posix run.sh", file("run.sh")),
        ];
        for (interpreter, line, expected) in cases {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert_eq!(claim(interpreter, &words), expected, "{line}");
        }
        assert_eq!(claim(Interpreter::Perl, &[b"perl", b"\xff.pl"]), None);
        assert_eq!(claim(Interpreter::Node, &[b"npm exec cowsay"]), None, "a rewritten title names nothing");
    }
}
