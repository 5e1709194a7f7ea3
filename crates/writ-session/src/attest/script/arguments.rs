//! What the arguments of an interpreter say it runs. A claim: used to find a file, and never believed by itself.
//!
//! Pure. When in doubt it says nothing: an option that is not known and takes a value would make the value look like the
//! script, and then the file of that name is digested, which matches nothing. An option that loads code beside the
//! script (`node --require`, `perl -M`, `java -javaagent:`) means that the script is not what runs, so there is none.

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
    /// Long options without a value; one that ends in `-` is the beginning of several. A long option that is in no list
    /// might take the next argument, so nothing is claimed.
    flags: &'static [&'static str],
    /// Options after which no file is named: the program is in the arguments or on standard input.
    inline: &'static [&'static str],
    /// Options that load code of their own, or a file that can say so.
    loading: &'static [&'static str],
    /// Words before the script: `deno run x.ts`.
    commands: &'static [&'static str],
    /// The option after which the file comes: `java -jar`. Without it there is none.
    introduced_by: Option<&'static str>,
}

const NOTHING: Grammar =
    Grammar { valued: &[], flags: &[], inline: &["-"], loading: &[], commands: &[], introduced_by: None };

#[rustfmt::skip]
const NODE: Grammar = Grammar {
    valued: &["-C", "--conditions", "--title", "--inspect-port", "--stack-trace-limit", "--max-http-header-size",
              "--dns-result-order", "--unhandled-rejections"],
    flags: &["--no-", "--trace-", "--inspect", "--inspect-brk", "--enable-source-maps", "--expose-gc", "--watch",
             "--experimental-strip-types", "--experimental-vm-modules", "--use-system-ca", "--abort-on-uncaught-exception"],
    inline: &["-e", "--eval", "-p", "--print", "-c", "--check", "-i", "--interactive", "--test", "--run", "-"],
    loading: &["-r", "--require", "--import", "--loader", "--experimental-loader", "--build-snapshot", "--snapshot-blob",
               "--env-file", "--env-file-if-exists", "--openssl-config", "--experimental-config-file",
               "--experimental-default-config-file"],
    commands: &["inspect"],
    ..NOTHING
};
#[rustfmt::skip]
const BUN: Grammar = Grammar {
    valued: &["--cwd", "--port"],
    flags: &["--no-", "--hot", "--watch", "--bun", "--smol", "--silent"],
    inline: &["-e", "--eval", "-p", "--print", "-", "x", "install", "add", "test", "build", "repl"],
    loading: &["-r", "--preload", "--import", "--require", "-c", "--config", "--env-file", "--tsconfig-override", "-d", "--define"],
    commands: &["run"],
    ..NOTHING
};
#[rustfmt::skip]
const DENO: Grammar = Grammar {
    valued: &["--lock", "--cert", "--seed", "-L", "--log-level", "--location"],
    flags: &["--allow-", "--deny-", "--no-", "--quiet", "--cached-only", "--frozen", "--unstable", "--unstable-", "--watch"],
    inline: &["eval", "repl", "test", "task", "install", "-"],
    loading: &["--preload", "--import", "--import-map", "-c", "--config", "--env-file"],
    commands: &["run", "serve"],
    ..NOTHING
};
#[rustfmt::skip]
const RUBY: Grammar = Grammar {
    valued: &["-C", "-E", "--encoding", "--external-encoding", "--internal-encoding"],
    flags: &["--yjit", "--jit", "--enable-frozen-string-literal", "--disable-gems", "--verbose"],
    inline: &["-e", "-", "-S"],
    loading: &["-I", "-r", "--require", "-x"],
    ..NOTHING
};
const PERL: Grammar =
    Grammar { inline: &["-e", "-E", "-"], loading: &["-I", "-M", "-m", "-x", "-d", "-S"], ..NOTHING };
#[rustfmt::skip]
const JAVA: Grammar = Grammar {
    valued: &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens", "--add-exports",
              "--add-reads", "--limit-modules", "--enable-native-access"],
    flags: &["--enable-preview", "--illegal-native-access"],
    inline: &[],
    loading: &["-javaagent", "-agentlib", "-agentpath", "-Xbootclasspath", "--patch-module", "--upgrade-module-path",
               "-XX:Flags", "-XX:VMOptionsFile", "@"],
    introduced_by: Some("-jar"),
    ..NOTHING
};
const SHELL: Grammar = Grammar {
    valued: &["-o", "+o", "-O", "+O"],
    flags: &["--login", "--posix", "--norc", "--noprofile", "--verbose", "--emulate"],
    inline: &["-c", "-s", "-", "-i"],
    loading: &["--rcfile", "--init-file"],
    ..NOTHING
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
        // Their options are not known here: only a file that comes before any.
        Interpreter::Other => {
            words.first().filter(|word| !word.starts_with('-')).map(|word| Claim::File((*word).to_owned()))
        }
        Interpreter::Env | Interpreter::Wrapped => None,
    }
}

fn file(grammar: &Grammar, words: &[&str]) -> Option<Claim> {
    let mut words = words.iter().copied();
    let mut introduced = grammar.introduced_by.is_none();
    let mut commands = grammar.commands;
    while let Some(word) = words.next() {
        if grammar.inline.contains(&word) || clustered_inline(grammar, word) || loads(grammar, word) {
            return None;
        }
        let unknown = word.len() > 2 && word.starts_with("--") && !word.contains('=');
        if unknown && !grammar.valued.contains(&word) && !grammar.flags.iter().any(|flag| is_flag(flag, word))
        {
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

fn is_flag(flag: &str, word: &str) -> bool {
    flag == word || (flag.ends_with('-') && word.starts_with(flag))
}

/// A short option takes its value right after it, a long one after `=` or `:`.
fn loads(grammar: &Grammar, word: &str) -> bool {
    grammar.loading.iter().any(|option| {
        let rest = word.strip_prefix(option);
        rest.is_some_and(|rest| option.len() <= 2 || rest.is_empty() || rest.starts_with(['=', ':', '/']))
    })
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
                return None;
            }
            return Some(Claim::File(word.to_owned()));
        };
        if letters.is_empty() {
            return None;
        }
        let known = |letters: &str| letters.chars().all(|letter| "bBdEhiIOPqRsSuvVx".contains(letter));
        let Some(at) = letters.find(['c', 'm', 'W', 'X']) else {
            if known(letters) {
                continue;
            }
            return None;
        };
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
            (Interpreter::Node, "node --title x --no-warnings main.js", file("main.js")),
            (Interpreter::Node, "node --require a.js main.js", None),
            (Interpreter::Node, "node --import=a.js main.js", None),
            (Interpreter::Node, "node --of-tomorrow good.js evil.js", None),
            (Interpreter::Node, "node --max-old-space-size=4096 main.js", file("main.js")),
            (Interpreter::Node, "node -e 1 main.js", None),
            (Interpreter::Node, "node -pe 1 main.js", None),
            (Interpreter::Node, "node -- main.js", file("main.js")),
            (Interpreter::Deno, "deno run --allow-net main.ts", file("main.ts")),
            (Interpreter::Deno, "deno eval main.ts", None),
            (Interpreter::Bun, "bun run x.ts", file("x.ts")),
            (Interpreter::Bun, "bun x cowsay", None),
            (Interpreter::Perl, "perl -w t.pl", file("t.pl")),
            (Interpreter::Perl, "perl -MEvil t.pl", None),
            (Interpreter::Perl, "perl -we x t.pl", None),
            (Interpreter::Ruby, "ruby -w t.rb", file("t.rb")),
            (Interpreter::Ruby, "ruby -rjson t.rb", None),
            (Interpreter::Java, "java -cp a.jar Main", None),
            (Interpreter::Java, "java -javaagent:x.jar -jar a.jar", None),
            (Interpreter::Java, "java @options -jar a.jar", None),
            (Interpreter::Java, "java -Xmx1g -jar a.jar b", file("a.jar")),
            (Interpreter::Other, "php a.php b.php", file("a.php")),
            (Interpreter::Other, "php -f a.php", None),
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
