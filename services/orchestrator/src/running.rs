//! The names of the requests that run, so that one that comes twice is noticed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All names in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    names: Arc<Mutex<HashSet<String>>>,
}

impl Running {
    /// Takes `name` until the guard drops; `None` when it is taken.
    pub(crate) fn take(&self, name: &str) -> Option<Name> {
        let name = name.to_owned();
        self.lock().insert(name.clone()).then(|| Name { running: self.clone(), name })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is in use.
#[derive(Debug)]
pub(crate) struct Name {
    running: Running,
    name: String,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.running.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_again_when_its_request_ends() {
        let running = Running::default();
        let first = running.take("mine").unwrap();
        assert!(running.take("mine").is_none());
        assert!(running.take("other").is_some());
        drop(first);
        assert!(running.take("mine").is_some());
    }
}
