//! Changing the filter's configuration while Envoy serves, as a control plane does.

use std::path::{Path, PathBuf};

use super::{Envoy, PATIENCE, tail, wait};

/// Envoy did not take a configuration; the old one keeps serving.
#[derive(Debug)]
pub struct Refused {
    /// What Envoy logged about it.
    pub log: String,
}

/// How the updates so far went.
struct Progress {
    taken: u64,
    refused: u64,
    applied: u64,
}

impl Envoy {
    /// Gives the filter another configuration and waits until every worker uses it; needs
    /// [`Builder::ecds`](super::Builder::ecds).
    ///
    /// # Errors
    ///
    /// Envoy or the filter refused it.
    pub fn reconfigure(&self, config: &str) -> Result<(), Refused> {
        assert!(self.builder.is_ecds(), "only an Envoy started with .ecds() can be reconfigured");
        let mut version = self.version.lock().expect("nobody panics with it");
        *version += 1;
        let mut builder = self.builder.clone();
        builder.set_config(config);
        let (before, said) = (self.progress(), self.log().len());
        write(&self.dir.0, &builder.ecds_text(*version));
        wait(PATIENCE, "the new configuration to be taken or refused", || {
            let now = self.progress();
            if now.refused > before.refused {
                let log = self.log();
                return Some(Err(Refused { log: tail(log.get(said..).unwrap_or(&log)) }));
            }
            // Taken by the main thread first; applied once the last worker has let go of the old one.
            (now.taken > before.taken && now.applied > before.applied).then_some(Ok(()))
        })
    }

    fn progress(&self) -> Progress {
        let stats = self.stats("extension_config_discovery");
        let count = |counter: &str| {
            let of_filter =
                stats.iter().filter(|(name, _)| name.starts_with("extension_config_discovery.http_filter."));
            of_filter.filter(|(name, _)| name.ends_with(counter)).map(|(_, value)| value).sum()
        };
        Progress { taken: count(".update_success"), refused: count(".config_fail"), applied: count(".config_reload") }
    }
}

/// Where the resource is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("filter.yaml")
}

/// Puts a resource in place: Envoy looks when a file is moved there, and must never read half of one.
pub(super) fn write(dir: &Path, text: &str) {
    let draft = dir.join("filter.draft");
    std::fs::write(&draft, text).expect("the folder is writable");
    std::fs::rename(draft, path(dir)).expect("the folder is writable");
}
