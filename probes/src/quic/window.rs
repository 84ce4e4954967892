//! A congestion window that does not move.
//!
//! A prober at a few packets a second cannot congest a path, but a congestion controller that shrinks on loss would
//! hold our echoes back, and the wait would be measured as latency exactly when the path is bad.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

/// More than all echoes that can be in flight: 2 s at the highest rate in use.
const WINDOW_BYTES: u64 = 512 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Constant;

impl ControllerFactory for Constant {
    fn build(self: Arc<Self>, _now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(Constant)
    }
}

impl Controller for Constant {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
