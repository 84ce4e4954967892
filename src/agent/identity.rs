//! Follows the files of our identity: another mesh secret, or certificates that were renewed, need no restart.
//!
//! Links do not notice: a connection that stands stays, and the next one is made with what is in the files then.

use probes::tls::{Identity, MeshTls, TlsError};

use super::{Agent, Settings};
use crate::export::events::Happening;

/// What is in the files; `None` for one that cannot be read.
type Contents = Vec<Option<Vec<u8>>>;

/// What is known of the files.
#[derive(Default)]
pub(super) struct Watch {
    in_force: Contents,
    faulty: Option<Faulty>,
    /// A reload was refused for their sake.
    owes_reload: bool,
}

struct Faulty {
    contents: Contents,
    is_said: bool,
}

impl Watch {
    /// To be asked before they are first used, so that a change in between is not missed.
    pub(super) fn new(settings: &Settings) -> Self {
        let identity = settings.measuring.identity.as_ref();
        Self { in_force: identity.map(contents).unwrap_or_default(), ..Self::default() }
    }

    /// Whether they are said to be unusable.
    pub(super) fn is_refused(&self) -> bool {
        self.faulty.as_ref().is_some_and(|faulty| faulty.is_said)
    }

    /// Whether it is worth a try to use what is in them.
    fn is_news(&self, seen: &Contents) -> bool {
        let is_known = self.faulty.as_ref().is_some_and(|known| known.is_said && known.contents == *seen);
        *seen != self.in_force && !is_known
    }

    /// They cannot be used; whether that is to be said. Files are replaced one after the other, and not always at once: what
    /// was as faulty at the last look is.
    fn failed(&mut self, seen: Contents, is_demanded: bool) -> bool {
        let is_same = self.faulty.as_ref().is_some_and(|known| known.contents == seen);
        self.faulty = Some(Faulty { contents: seen, is_said: is_same || is_demanded });
        is_same || is_demanded
    }

    fn taken(&mut self, seen: Contents) {
        (self.in_force, self.faulty) = (seen, None);
    }
}

/// A few kilobytes in the page cache: reading them every 5 s blocks nobody.
fn contents(identity: &Identity) -> Contents {
    identity.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}

/// Of two settings that differ in what their files say alone, the new ones become as the old ones are.
pub(super) fn keep(new: &mut Settings, old: &Settings) {
    if let (Some(new), Some(old)) = (&mut new.measuring.identity, &old.measuring.identity)
        && new.is_from_where(old)
    {
        new.clone_from(old);
    }
}

impl Agent {
    /// Looks at the files; whether a reload that was refused for their sake is due.
    pub(super) fn follow_identity(&mut self) -> bool {
        self.look_at_identity(None) && std::mem::take(&mut self.identity_files.owes_reload)
    }

    /// The same because it was demanded; whether what is in the files is in force now.
    pub(super) fn demand_identity(&mut self, why: &str) -> bool {
        let is_in_force = self.look_at_identity(Some(why));
        self.identity_files.owes_reload = !is_in_force;
        is_in_force
    }

    fn look_at_identity(&mut self, demanded: Option<&str>) -> bool {
        let Some(identity) = self.settings.measuring.identity.clone() else { return true };
        let seen = contents(&identity);
        if seen == self.identity_files.in_force {
            if self.identity_files.faulty.take().is_some_and(|faulty| faulty.is_said) {
                tracing::info!("the files of the identity are again as they were when they were taken over");
            }
            return true;
        }
        if demanded.is_none() && !self.identity_files.is_news(&seen) {
            return false;
        }
        let (key, changed) = match identity {
            Identity::Secret(_) => ("--mesh-secret-file", "the mesh secret file has changed"),
            _ => ("--tls-cert, --tls-key, --tls-ca", "the files of the certificates have changed"),
        };
        let why = demanded.unwrap_or(changed);
        match self.renew(&identity) {
            Ok(renewed) => {
                self.identity_files.taken(seen);
                match renewed {
                    // A remark in the file, for example.
                    Identity::Secret(_) if renewed == identity => {}
                    Identity::Secret(secrets) => {
                        let count = secrets.count();
                        let changed = format!(
                            "new connections use the first mesh secret of the file and believe {count}"
                        );
                        self.tell_of_identity(&Happening::Reloaded { why, changed: &changed });
                    }
                    _ => {
                        let changed = "new connections use the certificates of the files";
                        self.tell_of_identity(&Happening::Reloaded { why, changed });
                    }
                }
                true
            }
            Err(error) => {
                if self.identity_files.failed(seen, demanded.is_some()) {
                    let error = format!("{key}: {error}; what was in force stays: correct the file");
                    self.tell_of_identity(&Happening::Refused { why, error: &error });
                }
                false
            }
        }
    }

    /// Uses what is in the files from the next connection on.
    fn renew(&mut self, identity: &Identity) -> Result<Identity, TlsError> {
        let renewed = identity.renewed()?;
        if renewed != *identity || !matches!(renewed, Identity::Secret(_)) {
            self.measuring.renew(&MeshTls::new(&renewed)?)?;
            self.telemetry.certify(&renewed);
            self.settings.measuring.identity = Some(renewed.clone());
        }
        Ok(renewed)
    }

    /// Whether the rest of the configuration was refused is another question.
    fn tell_of_identity(&mut self, what: &Happening<'_>) {
        let was_in_force = self.telemetry.reload_is_in_force;
        self.happened(what);
        self.telemetry.reload_is_in_force = was_in_force;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(text: &str) -> Contents {
        vec![Some(text.as_bytes().to_vec())]
    }

    #[test]
    fn a_fault_is_said_once_it_was_seen_twice_and_never_again_until_the_files_change() {
        let mut watch = Watch { in_force: holding("old"), ..Watch::default() };
        assert!(!watch.is_news(&holding("old")));
        assert!(watch.is_news(&holding("half")));
        assert!(!watch.failed(holding("half"), false), "it may be in the middle of a replacement");
        assert!(!watch.is_refused() && watch.is_news(&holding("half")), "so it is tried again");
        assert!(!watch.failed(vec![None], false), "and again while it changes");
        assert!(watch.failed(vec![None], false));
        assert!(watch.is_refused() && !watch.is_news(&vec![None]), "said once");
        assert!(watch.is_news(&holding("new")));
        watch.taken(holding("new"));
        assert!(!watch.is_refused() && !watch.is_news(&holding("new")));
    }

    #[test]
    fn who_demands_a_reload_is_told_at_once() {
        let mut watch = Watch::default();
        assert!(watch.failed(holding("bad"), true) && watch.is_refused());
    }
}
