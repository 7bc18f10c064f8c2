//! Builtins that change what the shell executes later, or that evaluate text.

use super::names::{self, LANGUAGE};
use super::options::{Spec, operand};
use super::{Arg, Found, Simple, Unparsable, refuse};

type Res<T> = Result<T, Unparsable>;

impl Found {
    /// Notes a builtin, or any program that is not looked through.
    pub(super) fn builtin(&mut self, mut command: Simple, argv: &[Arg], depth: usize) -> Res<()> {
        let name = argv.first().map_or("", Arg::prefix);
        command.transparent = LANGUAGE.contains(&name);
        let operands = argv.get(1..).unwrap_or_default();
        match name {
            "." | "source" => {
                return refuse(
                    "a file read into the shell may change what every later command executes; run its programs by their path",
                );
            }
            "alias" => return refuse("an alias changes what later commands execute"),
            "trap" => return self.trap(command, operands, depth),
            "cd" | "pushd" => {
                let at = operand(argv, &Spec { flags: "LPen", ..Spec::default() }).unwrap_or(argv.len());
                let dir = argv.get(at).and_then(Arg::literal).filter(|d| *d != "-" && !d.starts_with(['+', '-']));
                self.dirs.push(dir.map(str::to_owned));
            }
            "export" | "readonly" | "local" => self.declare(name, operands)?,
            "read" => {
                let at = operand(argv, &Spec { flags: "rs", values: "ptndu", ..Spec::default() })?;
                self.variables(name, argv.get(at..).unwrap_or_default())?;
            }
            "getopts" => self.variables(name, operands.get(1..2).unwrap_or_default())?,
            "unset" => {
                let at = operand(argv, &Spec { flags: "v", ..Spec::default() })?;
                self.variables(name, argv.get(at..).unwrap_or_default())?;
            }
            "set" => options_of_set(operands)?,
            "hash"
                if operands
                    .iter()
                    .any(|a| a.prefix() != "-r" && (a.literal().is_none() || a.prefix().starts_with('-'))) =>
            {
                return refuse("`hash` may change what later commands execute");
            }
            "jobs" if operands.iter().any(|a| a.prefix().contains('x')) => return refuse("`jobs -x` runs a command"),
            "wait" if operands.iter().any(|a| a.prefix().starts_with("-p")) => {
                return refuse("`wait -p` is understood by some shells only");
            }
            "printf" if operands.first().is_some_and(|a| a.prefix().starts_with("-v")) => {
                return refuse("`printf -v` is understood by some shells only");
            }
            "test" | "[" if operands.iter().any(|a| a.literal() == Some("-v") || a.literal() == Some("-R")) => {
                return refuse("`test -v` evaluates the name that it is given; use `[ -n \"${name+x}\" ]`");
            }
            _ => {}
        }
        self.push(command)
    }

    fn trap(&mut self, command: Simple, operands: &[Arg], depth: usize) -> Res<()> {
        self.push(command)?;
        let mut rest = operands;
        if rest.first().and_then(Arg::literal) == Some("--") {
            rest = rest.get(1..).unwrap_or_default();
        }
        match rest.first() {
            None => Ok(()),
            Some(Arg::Literal(text)) if text == "-" || text == "-l" || text == "-p" => Ok(()),
            Some(Arg::Literal(text)) => self.text(text, depth, false),
            Some(Arg::Unknown { .. }) => refuse("`trap` of a text that is only known when it runs"),
        }
    }

    fn declare(&mut self, name: &str, operands: &[Arg]) -> Res<()> {
        for arg in operands {
            match arg {
                Arg::Literal(text) if text == "-p" || (text == "-n" && name == "export") => {}
                Arg::Literal(text) => {
                    let (variable, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
                    if !names::identifier(variable) {
                        return refuse(format!("`{name} {text}` is not a plain assignment"));
                    }
                    if value.is_some() {
                        self.assign(variable, value)?;
                    }
                }
                Arg::Unknown { prefix, many, .. } => {
                    let Some(variable) = names::assigned(prefix) else {
                        return refuse(format!("it cannot be told which variable `{name}` sets"));
                    };
                    if *many {
                        return refuse(format!(
                            "the value after `{name} {variable}=` must be quoted: shells may split it"
                        ));
                    }
                    self.assign(variable, None)?;
                }
            }
        }
        Ok(())
    }

    fn variables(&mut self, name: &str, operands: &[Arg]) -> Res<()> {
        for arg in operands {
            match arg.literal().filter(|n| names::identifier(n)) {
                Some(variable) => self.assign(variable, None)?,
                None => return refuse(format!("it cannot be told which variable `{name}` changes")),
            }
        }
        Ok(())
    }
}

/// `set` may turn on what changes the meaning of later words (`-k`); only what does not is let through.
fn options_of_set(operands: &[Arg]) -> Res<()> {
    let mut long = false;
    for arg in operands {
        let Some(text) = arg.literal() else {
            return refuse("an option of `set` is only known when it runs");
        };
        if std::mem::take(&mut long) {
            if !matches!(
                text,
                "pipefail" | "errexit" | "nounset" | "xtrace" | "noglob" | "noclobber" | "verbose" | "posix"
            ) {
                return refuse(format!("`set -o {text}` may change what later commands execute"));
            }
            continue;
        }
        if text == "--" || text == "-" {
            return Ok(());
        }
        let Some(letters) = text.strip_prefix(['-', '+']) else { return Ok(()) };
        if !letters.chars().all(|c| "euxfvnCabmo".contains(c)) {
            return refuse(format!("`set {text}` may change what later commands execute"));
        }
        long = letters.contains('o');
    }
    Ok(())
}
