//! Names with a meaning of their own.

/// Words that the grammar knows at the place of a command.
pub(super) const RESERVED: [&str; 16] =
    ["!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while"];

/// Words that `bash` reads as grammar or as a builtin that evaluates text, and other shells as a program's name.
pub(super) const BASH_ONLY: [&str; 20] = [
    "[[",
    "]]",
    "function",
    "select",
    "coproc",
    "let",
    "declare",
    "typeset",
    "mapfile",
    "readarray",
    "compgen",
    "complete",
    "compopt",
    "bind",
    "fc",
    "enable",
    "shopt",
    "history",
    "newgrp",
    "disown",
];

/// Builtins that no function may be called like: shells disagree on which of the two is run, or we look through them.
pub(super) const SPECIAL: [&str; 31] = [
    ":", ".", "source", "eval", "exec", "exit", "export", "readonly", "return", "set", "shift", "times", "trap",
    "unset", "break", "continue", "command", "builtin", "local", "read", "getopts", "alias", "unalias", "cd", "wait",
    "hash", "umask", "time", "type", "jobs", "test",
];

/// Builtins of the language: they change nothing but the shell itself.
pub(super) const LANGUAGE: [&str; 17] = [
    ":", "break", "continue", "exit", "return", "shift", "export", "readonly", "local", "set", "unset", "wait",
    "getopts", "times", "umask", "read", "trap",
];

/// Programs that run another program and are not looked through: rules that refuse are also held against what follows.
pub(super) const OPAQUE: [&str; 40] = [
    "sudo",
    "doas",
    "chroot",
    "unshare",
    "nsenter",
    "strace",
    "ltrace",
    "gdb",
    "script",
    "flock",
    "chrt",
    "taskset",
    "ionice",
    "numactl",
    "fakeroot",
    "proot",
    "bwrap",
    "systemd-run",
    "runuser",
    "setpriv",
    "capsh",
    "entr",
    "tmux",
    "screen",
    "perf",
    "valgrind",
    "npx",
    "bunx",
    "uvx",
    "pipx",
    "uv",
    "poetry",
    "pdm",
    "hatch",
    "bundle",
    "direnv",
    "dbus-run-session",
    "xvfb-run",
    "catchsegv",
    "rlwrap",
];

/// Shells whose language is not the one that is parsed here.
pub(super) const OTHER_SHELLS: [&str; 12] =
    ["zsh", "ksh", "ksh93", "mksh", "fish", "csh", "tcsh", "pwsh", "rbash", "yash", "posh", "hush"];

/// True for a variable whose value decides what other commands execute.
pub(super) fn dangerous(name: &str) -> bool {
    const PREFIXES: [&str; 6] = ["LD_", "DYLD_", "GIT_", "BASH_", "SUDO_", "CARGO_BUILD_"];
    const NAMES: [&str; 46] = [
        "PATH",
        "IFS",
        "ENV",
        "SHELL",
        "PS0",
        "PS1",
        "PS2",
        "PS3",
        "PS4",
        "PROMPT_COMMAND",
        "CDPATH",
        "GLOBIGNORE",
        "SHELLOPTS",
        "BASHOPTS",
        "EXECIGNORE",
        "HOME",
        "XDG_CONFIG_HOME",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "MANPAGER",
        "LESSOPEN",
        "LESSCLOSE",
        "BROWSER",
        "NODE_OPTIONS",
        "PERL5OPT",
        "PERL5LIB",
        "PERL5DB",
        "RUBYOPT",
        "RUBYLIB",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "MAKEFLAGS",
        "MAKEFILES",
        "GCONV_PATH",
        "GOFLAGS",
        "SSH_ASKPASS",
        "FPATH",
        "POSIXLY_CORRECT",
    ];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|p| name.starts_with(p))
        || (name.starts_with("CARGO_TARGET_") && (name.ends_with("_RUNNER") || name.ends_with("_LINKER")))
}

/// True for a variable's name.
pub(super) fn identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The name in `NAME=…`.
pub(super) fn assigned(word: &str) -> Option<&str> {
    word.split_once('=').map(|(name, _)| name).filter(|name| identifier(name))
}

/// A program's name without its folder.
pub(in crate::policy) fn basename(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// True where a program is named without a folder, or lies in one of the system's own.
pub(in crate::policy) fn standard(program: &str) -> bool {
    match program.rsplit_once('/') {
        None => true,
        Some((folder, _)) => {
            matches!(folder, "/bin" | "/usr/bin" | "/usr/local/bin" | "/sbin" | "/usr/sbin" | "/usr/local/sbin")
        }
    }
}

/// True for a program that runs what follows it in its arguments.
pub(in crate::policy) fn opaque(program: &str) -> bool {
    OPAQUE.contains(&basename(program))
}
