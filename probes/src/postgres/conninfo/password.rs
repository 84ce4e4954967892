//! Where a password comes from that is not in the connection string. It is asked for anew at each connect, as tokens of a
//! cloud live for minutes.

use std::fmt;
use std::path::PathBuf;

/// Who knows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of this file.
    File(PathBuf),
    /// The first line that this program prints.
    Command(PasswordCommand),
}

/// A program with its arguments, which may hold secrets and are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordCommand {
    program: String,
    arguments: Vec<String>,
}

impl PasswordCommand {
    /// The first of these words is the program; `None` where there is none. No shell will look at them.
    pub fn new(words: Vec<String>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty())?;
        Some(Self { program, arguments: words.collect() })
    }

    /// The program, which is no secret.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its arguments, to run it.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// What somebody said, without what may be a secret in it: what was printed, and the arguments.
    pub fn hide_secrets(&self, text: &str, printed: &str) -> String {
        /// What is shorter is no secret, and to hide it would make the rest unreadable.
        const SHORTEST: usize = 4;
        // `--token=x` may come back as `x` alone.
        let values = self.arguments.iter().filter_map(|argument| Some(argument.split_once('=')?.1));
        let arguments = self.arguments.iter().map(String::as_str).chain(values);
        let arguments = arguments.filter(|argument| argument.len() >= SHORTEST);
        let secrets = printed.lines().chain(arguments).map(str::trim);
        let mut secrets: Vec<_> = secrets.filter(|secret| !secret.is_empty()).collect();
        // The longest first: a shorter one may be a part of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// Without the arguments.
impl fmt::Debug for PasswordCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordCommand({:?}, {} arguments)", self.program, self.arguments.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> PasswordCommand {
        PasswordCommand::new(words.iter().map(ToString::to_string).collect()).unwrap()
    }

    #[test]
    fn arguments_are_never_shown() {
        let command = command(&["aws", "--token=hunter2", "hunter22"]);
        assert_eq!(
            format!("{:?}", PasswordSource::Command(command)),
            "Command(PasswordCommand(\"aws\", 2 arguments))"
        );
        assert_eq!(PasswordCommand::new(vec![]), None);
        assert_eq!(PasswordCommand::new(vec![String::new()]), None);
    }

    #[test]
    fn what_a_program_complains_of_holds_neither_its_arguments_nor_what_it_printed() {
        let command = command(&["aws", "--token=hunter2", "-x", "hunter22"]);
        let said =
            command.hide_secrets("bad hunter22, hunter2 or --token=hunter2; printed s3cret", "s3cret\n\n");
        assert_eq!(said, "bad ***, *** or ***; printed ***");
    }
}
