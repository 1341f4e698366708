//! Other settings of a destination while its worker runs: they count from the next attempt on, what is under
//! way ends with what it began with.

use super::carrier::Carrier;
use super::covered::Covered;
use super::worker::Worker;
use crate::sync::settings::DestinationSettings;
use std::sync::Arc;

/// Whether a worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Going {
    On,
    /// Another `on_failure` sorts the rows of the journal anew: one begins in its place, once what is under way
    /// has ended.
    Anew,
}

impl Worker {
    /// Takes other settings. Its pause, its breaker, its lanes and what it has learned stay; a destination
    /// that refused Tidegate as such is probed at once, for this may be what it was about.
    pub(super) fn take_settings(&mut self, settings: &DestinationSettings) {
        if settings.on_failure != self.course.settings.on_failure {
            self.going = Going::Anew;
            return;
        }
        self.course.settings = settings.clone();
        // At another address there may be nothing of what was delivered.
        self.course.covered = Covered::default();
        self.course.pace.set(settings);
        self.carrier = Arc::new(Carrier::new(self.known.id, settings, &self.inner));
        tracing::info!(destination = %self.known.name, "a destination has other settings");
    }
}
