//! How much goes into one message, for a receiver that does not say how much it takes. Pure.

/// So many full messages have to be taken before more is tried.
const GROWS_AFTER: u32 = 16;

#[derive(Debug)]
pub(super) struct Size {
    most: usize,
    at_most: usize,
    /// Full ones in a row.
    taken: u32,
}

impl Size {
    /// As much as this until somebody refuses it.
    pub(super) fn new(most: usize) -> Self {
        Self { most, at_most: most, taken: 0 }
    }

    pub(super) fn at_most(&self) -> usize {
        self.at_most
    }

    /// So many were too many.
    pub(super) fn too_long(&mut self, count: usize) {
        self.at_most = (count / 2).max(1);
        self.taken = 0;
    }

    /// So many were taken. The next try to send more is a long way off: it may be refused again.
    pub(super) fn taken(&mut self, count: usize) {
        if count < self.at_most || self.at_most == self.most {
            return;
        }
        self.taken += 1;
        if self.taken >= GROWS_AFTER {
            self.at_most = self.at_most.saturating_mul(2).min(self.most);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_halved_at_once_and_doubled_after_many_full_messages_only() {
        let mut size = Size::new(512);
        size.too_long(512);
        size.too_long(256);
        assert_eq!(size.at_most(), 128);
        (0..100).for_each(|_| size.taken(127));
        assert_eq!(size.at_most(), 128, "what is not full proves nothing");
        (0..15).for_each(|_| size.taken(128));
        assert_eq!(size.at_most(), 128);
        size.taken(128);
        assert_eq!(size.at_most(), 256);
        (0..64).for_each(|_| size.taken(size.at_most()));
        assert_eq!(size.at_most(), 512, "and never more than it began with");
        size.too_long(1);
        assert_eq!(size.at_most(), 1);
    }
}
