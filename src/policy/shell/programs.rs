//! Programs that run other commands: looked through, so that both are judged.

use super::names::{self, BASH_ONLY, OTHER_SHELLS, RESERVED};
use super::options::{Spec, operand};
use super::{Arg, Found, MAX_DEPTH, Simple, Unparsable, refuse};

type Res<T> = Result<T, Unparsable>;

const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

impl Found {
    /// Notes a command and everything that it would run.
    pub(super) fn run(&mut self, mut command: Simple, depth: usize) -> Res<()> {
        if depth >= MAX_DEPTH {
            return refuse("the text is nested too deeply");
        }
        let Some(program) = command.program().map(str::to_owned) else {
            let word = command.argv.first().map(ToString::to_string).unwrap_or_default();
            return refuse(format!("it cannot be told what `{word}` executes; write the command's name out"));
        };
        if program.is_empty() || RESERVED.contains(&program.as_str()) || names::assigned(&program).is_some() {
            return refuse(format!("`{program}` at the place of a command is read differently by shells"));
        }
        if program.contains("+=") {
            return refuse("`+=` is understood by some shells only");
        }
        if BASH_ONLY.contains(&program.as_str()) {
            return refuse(format!("`{program}` is understood by some shells only; use plain `sh`"));
        }
        if !names::standard(&program) {
            return self.push(command);
        }
        let depth = depth + 1;
        let argv = command.argv.clone();
        match names::basename(&program) {
            "eval" => {
                command.transparent = true;
                self.push(command)?;
                let words = argv.iter().skip(1).map(Arg::literal).collect::<Option<Vec<_>>>();
                match words {
                    Some(words) => self.text(&words.join(" "), depth, false),
                    None => refuse("`eval` of a text that is only known when it runs"),
                }
            }
            "command" => {
                let at = operand(&argv, &Spec { flags: "pvV", ..Spec::default() })?;
                let asks = argv.iter().take(at).any(|a| a.prefix().contains(['v', 'V']) && a.prefix().starts_with('-'));
                if asks || at >= argv.len() { self.push(command) } else { self.wrap(command, &argv, at, depth) }
            }
            "builtin" | "nohup" => {
                let at = operand(&argv, &Spec::default())?;
                self.wrap(command, &argv, at, depth)
            }
            "exec" => {
                let at = operand(&argv, &Spec { flags: "cl", values: "a", ..Spec::default() })?;
                self.wrap(command, &argv, at, depth)
            }
            "nice" => {
                let spec = Spec { values: "n", long_values: &["adjustment"], numbers: true, ..Spec::default() };
                self.wrap(command, &argv, operand(&argv, &spec)?, depth)
            }
            "time" => {
                let at = operand(&argv, &Spec { flags: "p", ..Spec::default() })?;
                self.wrap(command, &argv, at, depth)
            }
            "timeout" => {
                let spec = Spec {
                    flags: "vfp",
                    values: "sk",
                    long_flags: &["foreground", "preserve-status", "verbose"],
                    long_values: &["signal", "kill-after"],
                    ..Spec::default()
                };
                let at = operand(&argv, &spec)?;
                if argv.get(at).is_some_and(|duration| duration.literal().is_none()) {
                    return refuse("the duration of `timeout` is only known when it runs");
                }
                self.wrap(command, &argv, at + 1, depth)
            }
            "stdbuf" => {
                let spec = Spec { values: "ioe", long_values: &["input", "output", "error"], ..Spec::default() };
                self.wrap(command, &argv, operand(&argv, &spec)?, depth)
            }
            "setsid" => {
                let spec = Spec { flags: "cfw", long_flags: &["ctty", "fork", "wait"], ..Spec::default() };
                self.wrap(command, &argv, operand(&argv, &spec)?, depth)
            }
            "busybox" | "toybox" => {
                if argv.get(1).is_some_and(|a| a.prefix().starts_with('-')) {
                    return self.push(command);
                }
                self.wrap(command, &argv, 1, depth)
            }
            "env" => self.env(command, &argv, depth),
            "xargs" => self.xargs(command, &argv, depth),
            "find" => self.find(command, &argv, depth),
            "sudo" | "doas" => {
                self.push(command)?;
                let at = operand(&argv, &Spec { flags: "AbEHnPSki", values: "ugpCcrtTRDh", ..Spec::default() })?;
                self.inner(&argv, at, depth)
            }
            "watch" => {
                self.push(command)?;
                let at = operand(&argv, &Spec { flags: "bcdegtxpw", values: "nq", ..Spec::default() })?;
                match argv.iter().skip(at).map(Arg::literal).collect::<Option<Vec<_>>>() {
                    Some(words) => self.text(&words.join(" "), depth, false),
                    None => refuse("`watch` runs a text that is only known when it runs"),
                }
            }
            name @ ("su" | "parallel") => refuse(format!("it cannot be told what `{name}` would execute")),
            name if SHELLS.contains(&name) => self.shell(command, &argv, depth),
            name if OTHER_SHELLS.contains(&name) => {
                refuse(format!("what `{name}` would execute is not parsed here; use `sh`"))
            }
            "git" => self.git(command, &argv, depth),
            "make" | "gmake" => {
                for arg in argv.iter().skip(1).map(Arg::prefix) {
                    if ["SHELL", ".SHELLFLAGS", "MAKEFLAGS", "--eval", "-E"].iter().any(|p| arg.starts_with(p)) {
                        return refuse(format!("`make {arg}` changes what make executes"));
                    }
                }
                self.folders(&argv, &["-C", "--directory"]);
                self.push(command)
            }
            _ => self.builtin(command, &argv, depth),
        }
    }

    /// Notes a wrapper and what it wraps.
    fn wrap(&mut self, mut command: Simple, argv: &[Arg], at: usize, depth: usize) -> Res<()> {
        command.transparent = at < argv.len();
        if command.argv.len() == 1 && command.program().is_some_and(|name| names::basename(name) == "exec") {
            command.transparent = true; // only its redirections matter
        }
        self.push(command)?;
        self.inner(argv, at, depth)
    }

    fn inner(&mut self, argv: &[Arg], at: usize, depth: usize) -> Res<()> {
        match argv.get(at..) {
            Some(rest) if !rest.is_empty() => self.run(Simple { argv: rest.to_vec(), ..Simple::default() }, depth),
            _ => Ok(()),
        }
    }

    fn env(&mut self, command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let spec = Spec {
            flags: "i0v",
            values: "uC",
            long_flags: &["ignore-environment", "null", "debug"],
            long_values: &["unset", "chdir"],
            ..Spec::default()
        };
        // `-S` splits a text into words; only where it holds nothing that it would interpret.
        if let Some(text) = argv
            .get(1)
            .and_then(Arg::literal)
            .and_then(|a| a.strip_prefix("-S").or_else(|| a.strip_prefix("--split-string=")).map(str::to_owned))
        {
            let (text, rest) = match (text.is_empty(), argv.get(2)) {
                (false, _) => (text, 2),
                (true, Some(Arg::Literal(next))) => (next.clone(), 3),
                _ => return refuse("the text after `env -S` is only known when it runs"),
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b" _./=,:@%+-".contains(&b);
            if !text.bytes().all(plain) || text.starts_with('-') || text.contains(" -S") {
                return refuse("the text after `env -S` holds more than plain words");
            }
            let words = text.split(' ').filter(|w| !w.is_empty()).map(Arg::lit);
            let split: Vec<Arg> =
                argv.iter().take(1).cloned().chain(words).chain(argv.iter().skip(rest).cloned()).collect();
            return self.run(Simple { argv: split, ..command }, depth);
        }
        self.folders(argv, &["-C", "--chdir"]);
        let mut at = operand(argv, &spec)?;
        for option in argv.iter().take(at).filter_map(Arg::literal) {
            let name = option.strip_prefix("-u").or_else(|| option.strip_prefix("--unset=")).unwrap_or(option);
            if names::dangerous(name) {
                return refuse(format!("unsetting `{name}` changes what other commands execute"));
            }
        }
        if argv.get(at).and_then(Arg::literal) == Some("-") {
            at += 1;
        }
        loop {
            match argv.get(at) {
                Some(Arg::Literal(word)) if word.contains('=') => {
                    let name = word.split('=').next().unwrap_or_default();
                    if names::dangerous(name) || !names::identifier(name) {
                        return refuse(format!("setting `{name}` changes what other commands execute"));
                    }
                }
                Some(Arg::Unknown { prefix, many: false, .. })
                    if names::assigned(prefix).is_some_and(|name| !names::dangerous(name)) => {}
                Some(Arg::Unknown { .. }) => return refuse("it cannot be told what `env` would execute"),
                _ => break,
            }
            at += 1;
        }
        self.wrap(command, argv, at, depth)
    }

    fn xargs(&mut self, command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let spec = Spec {
            flags: "0rtxpo",
            values: "IaELnPsd",
            optional: "i",
            long_flags: &["null", "no-run-if-empty", "verbose", "exit", "open-tty", "interactive", "replace"],
            long_values: &["arg-file", "delimiter", "max-args", "max-procs", "max-chars"],
            ..Spec::default()
        };
        let at = operand(argv, &spec)?;
        let mut options = argv.iter().take(at).filter_map(Arg::literal).skip(1);
        while let Some(option) = options.next() {
            let mark = if option == "-I" {
                options.next().unwrap_or_default()
            } else if let Some(mark) = option.strip_prefix("--replace=") {
                mark
            } else if option.starts_with('-') && !option.starts_with("--") && option.contains(['I', 'i']) {
                option.split(['I', 'i']).nth(1).unwrap_or_default()
            } else {
                continue;
            };
            if !mark.is_empty() && mark != "{}" {
                return refuse("use `{}` as the mark of `xargs -I`");
            }
        }
        let mut inner = placeholders(argv.get(at..).unwrap_or_default());
        if inner.is_empty() {
            inner.push(Arg::lit("echo"));
        }
        inner.push(Arg::anything(true));
        self.push(Simple { transparent: true, ..command })?;
        self.run(Simple { argv: inner, ..Simple::default() }, depth)
    }

    fn find(&mut self, mut command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let hidden = |a: &Arg| match a {
            Arg::Literal(_) => false,
            Arg::Unknown { prefix, glob, many } => {
                prefix.is_empty() || prefix.starts_with(['-', '(', '!', ',']) || (*many && glob.is_none())
            }
        };
        if argv.iter().skip(1).any(hidden) {
            return refuse("an argument of `find` is only known when it runs; it could be an action");
        }
        let mut inner = Vec::new();
        let mut at = 1;
        while let Some(arg) = argv.get(at) {
            at += 1;
            match arg.prefix() {
                "-exec" | "-execdir" | "-ok" | "-okdir" => {
                    let start = at;
                    loop {
                        match argv.get(at).map(Arg::prefix) {
                            None => return refuse("the end of `find -exec` is missing"),
                            Some(";") => break,
                            Some("+") if at > start && argv.get(at - 1).is_some_and(|a| a.prefix() == "{}") => break,
                            Some(_) => at += 1,
                        }
                    }
                    inner.push(placeholders(argv.get(start..at).unwrap_or_default()));
                    at += 1;
                }
                "-fprint" | "-fprint0" | "-fprintf" | "-fls" => {
                    command.writes.extend(argv.get(at).cloned());
                    at += 1;
                }
                _ => {}
            }
        }
        self.push(command)?;
        for argv in inner {
            self.run(Simple { argv, ..Simple::default() }, depth)?;
        }
        Ok(())
    }

    /// `sh -c TEXT` is parsed; `sh FILE` is a command like any other; a script from standard input is refused.
    fn shell(&mut self, mut command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let name = argv.first().map_or("sh", Arg::prefix).to_owned();
        let mut text_follows = false;
        let mut at = 1;
        while let Some(arg) = argv.get(at) {
            let Some(option) = arg.literal() else {
                if text_follows {
                    return refuse(format!("`{name} -c` of a text that is only known when it runs"));
                }
                return refuse(format!("an argument of `{name}` is only known when it runs"));
            };
            at += 1;
            match option {
                "--" => break,
                "--posix" | "--norc" | "--noprofile" => continue,
                _ => {}
            }
            let Some(letters) = option.strip_prefix(['-', '+']) else {
                at -= 1;
                break;
            };
            if letters.is_empty() || !letters.chars().all(|c| "ceuxfvnabmCo".contains(c)) {
                return refuse(format!("the option `{option}` of `{name}` is not known here"));
            }
            text_follows |= option.starts_with('-') && letters.contains('c');
            at += letters.matches('o').count();
        }
        match argv.get(at) {
            Some(Arg::Literal(text)) if text_follows => {
                command.transparent = true;
                self.push(command)?;
                self.text(text, depth, true)
            }
            Some(Arg::Literal(file)) if !file.is_empty() && file != "-" => self.push(command),
            None => refuse(format!("`{name}` would run what it reads from standard input")),
            Some(_) => refuse(format!("it cannot be told what `{name}` would run")),
        }
    }

    fn git(&mut self, mut command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let mut at = 1;
        loop {
            let Some(arg) = argv.get(at) else { return self.push(command) };
            let Some(option) = arg.literal() else {
                return refuse("it cannot be told which command of git this is");
            };
            match option {
                "-C" => {
                    self.dirs.push(argv.get(at + 1).and_then(Arg::literal).map(str::to_owned));
                    at += 2;
                }
                "-c" => {
                    let setting = argv.get(at + 1).and_then(Arg::literal).unwrap_or_default();
                    if !harmless_setting(setting) {
                        return refuse(format!("`git -c {setting}` may change what git executes"));
                    }
                    at += 2;
                }
                "--version" | "--help" => return self.push(command),
                "-p"
                | "-P"
                | "--paginate"
                | "--no-pager"
                | "--no-optional-locks"
                | "--literal-pathspecs"
                | "--no-replace-objects"
                | "--bare" => at += 1,
                _ if option.starts_with('-') => {
                    return refuse(format!("the option `{option}` of git may change what git executes"));
                }
                _ => break,
            }
        }
        // Rules are about `git push`, however it is written.
        let mut plain = vec![Arg::lit(argv.first().map_or("git", Arg::prefix))];
        plain.extend(argv.iter().skip(at).cloned());
        const RUNS: [&str; 9] = [
            "--upload-pack",
            "--receive-pack",
            "--exec",
            "--extcmd",
            "--open-files-in-pager",
            "--ext-diff",
            "--textconv",
            "--tool",
            "--config",
        ];
        let sub = plain.get(1).map_or("", Arg::prefix).to_owned();
        let rest = plain.get(2..).unwrap_or_default();
        if matches!(sub.as_str(), "difftool" | "mergetool" | "filter-branch" | "instaweb" | "daemon" | "send-email") {
            return refuse(format!("`git {sub}` runs programs that cannot be told"));
        }
        if sub == "submodule" && rest.iter().any(|a| a.prefix() == "foreach") {
            return refuse("`git submodule foreach` runs a text in every submodule");
        }
        for arg in rest.iter().map(Arg::prefix) {
            let name = arg.split('=').next().unwrap_or_default();
            let long = name.len() >= 4 && RUNS.iter().any(|option| option.starts_with(name));
            let short = match sub.as_str() {
                "grep" => arg.starts_with("-O"),
                "rebase" => arg.starts_with("-x"),
                "clone" => arg.starts_with("-c") || arg.starts_with("-u"),
                _ => false,
            };
            if long || short {
                return refuse(format!("`{arg}` makes git run a program that cannot be told"));
            }
        }
        let bisect = (sub == "bisect" && rest.first().is_some_and(|a| a.prefix() == "run")).then(|| plain.clone());
        command.argv = plain;
        self.push(command)?;
        bisect.map_or(Ok(()), |argv| self.inner(&argv, 3, depth))
    }

    /// Notes the folder that an option names.
    fn folders(&mut self, argv: &[Arg], options: &[&str]) {
        for (at, arg) in argv.iter().enumerate().skip(1) {
            for option in options {
                let Some(rest) = arg.prefix().strip_prefix(option) else { continue };
                let dir = if rest.is_empty() && arg.literal().is_some() {
                    argv.get(at + 1).and_then(Arg::literal)
                } else {
                    arg.literal().map(|_| rest.trim_start_matches('='))
                };
                self.dirs.push(dir.map(str::to_owned));
            }
        }
    }
}

/// What stands where `{}` stands is only known when it runs.
fn placeholders(argv: &[Arg]) -> Vec<Arg> {
    let unknown = |arg: &Arg| match arg {
        Arg::Literal(text) => {
            text.split_once("{}").map(|(before, _)| Arg::Unknown { prefix: before.to_owned(), glob: None, many: false })
        }
        Arg::Unknown { .. } => None,
    };
    argv.iter().map(|arg| unknown(arg).unwrap_or_else(|| arg.clone())).collect()
}

fn harmless_setting(setting: &str) -> bool {
    let key = setting.split('=').next().unwrap_or_default().to_ascii_lowercase();
    matches!(
        key.as_str(),
        "user.name"
            | "user.email"
            | "core.quotepath"
            | "core.autocrlf"
            | "init.defaultbranch"
            | "safe.directory"
            | "log.showsignature"
            | "advice.detachedhead"
    ) || key.starts_with("color.")
        || matches!(setting, "core.pager=cat" | "core.pager=" | "commit.gpgsign=false" | "core.fsmonitor=false")
}
