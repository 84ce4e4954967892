//! The manifests that `probe check --manifests` judges: files, directories and standard input, none longer than it may be.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::file::{File, Layers};
use super::{ConfigError, Environment, budgets, fault};
use crate::cli::CheckArgs;
use crate::manifests::{FILE_LIMIT_BYTES, Settings, Source, TOTAL_LIMIT_BYTES};
use crate::mesh::peer::Role;

const KEY: &str = "--manifests";
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];
const MOST_FILES: usize = 10_000;
const STANDARD_INPUT: &str = "-";

/// What `probe check --manifests` is about: what it is held against, and all that is written.
pub fn manifests(args: &CheckArgs, env: Environment<'_>) -> Result<(Settings, Vec<Source>), ConfigError> {
    let severities = Layers { file: File::default(), env }.severities()?;
    let limit = budgets(args).limit(Some(Role::Coderd), Some(Role::Postgres));
    let settings = Settings { severities, budget: limit.unwrap_or_default() };
    let mut reader = Reader::default();
    for path in &args.manifests {
        if path.as_os_str() == STANDARD_INPUT {
            reader.take("standard input", io::stdin().lock()).map_err(|error| reader.wrong(path, error))?;
        } else if path.is_dir() {
            let before = reader.files.len();
            reader.directory(path)?;
            if reader.files.len() == before {
                let cause = format!("{} holds no file that ends in .yaml, .yml or .json", path.display());
                return Err(fault(KEY, cause));
            }
        } else {
            reader.file(path)?;
        }
    }
    Ok((settings, reader.files))
}

#[derive(Default)]
struct Reader {
    files: Vec<Source>,
    bytes: usize,
}

/// Why a file is not taken.
enum Refusal {
    System(io::Error),
    Other(String),
}

impl Reader {
    /// All files in and below a directory, by name. Hidden ones are left alone, and so are directories behind a symbolic
    /// link: they would be read twice, or for ever.
    fn directory(&mut self, directory: &Path) -> Result<(), ConfigError> {
        let wrong = |source| ConfigError::File { key: KEY, path: directory.to_owned(), source };
        let entries = std::fs::read_dir(directory).map_err(wrong)?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(wrong)?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !is_hidden {
                paths.push((entry.path(), entry.file_type().map_err(wrong)?.is_dir()));
            }
        }
        paths.sort();
        for (path, is_directory) in paths {
            let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
            if is_directory {
                self.directory(&path)?;
            } else if SUFFIXES.contains(&suffix.to_lowercase().as_str()) && !path.is_dir() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = std::fs::File::open(path);
        let taken = file.map_err(Refusal::System);
        let taken = taken.and_then(|file| self.take(&path.to_string_lossy(), file));
        taken.map_err(|refusal| self.wrong(path, refusal))
    }

    fn take(&mut self, name: &str, from: impl Read) -> Result<(), Refusal> {
        if self.files.len() == MOST_FILES {
            return Err(Refusal::Other(format!("there are more than {MOST_FILES} files")));
        }
        let most = FILE_LIMIT_BYTES.min(TOTAL_LIMIT_BYTES - self.bytes);
        let mut bytes = Vec::new();
        from.take(most as u64 + 1).read_to_end(&mut bytes).map_err(Refusal::System)?;
        if bytes.len() > FILE_LIMIT_BYTES {
            let limit = FILE_LIMIT_BYTES >> 20;
            return Err(Refusal::Other(format!(
                "it is longer than {limit} MiB, which is no manifest; split it"
            )));
        }
        if bytes.len() > most {
            let limit = TOTAL_LIMIT_BYTES >> 20;
            return Err(Refusal::Other(format!("with it there are more than {limit} MiB; name fewer files")));
        }
        self.bytes += bytes.len();
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Refusal::Other(format!("it is no text in UTF-8: byte {at} does not belong"))
        })?;
        self.files.push(Source { name: name.to_owned(), text });
        Ok(())
    }

    fn wrong(&self, path: &Path, refusal: Refusal) -> ConfigError {
        match refusal {
            Refusal::System(source) => ConfigError::File { key: KEY, path: PathBuf::from(path), source },
            Refusal::Other(cause) => fault(KEY, format!("cannot take {}: {cause}", path.display())),
        }
    }
}
