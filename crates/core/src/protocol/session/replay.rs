//! Recognition of messages that arrive again.

/// Messages by which one may arrive late, the number of bits of the window. As in IPsec (RFC
/// 4303, 3.4.3).
const WINDOW: u64 = 64;

/// The sequence numbers that were received in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// Largest number received; 0: none.
    highest: u64,
    /// Bit `i`: `highest - i` was received.
    received: u64,
}

impl ReplayWindow {
    /// Records a number. Returns `false` if it is 0, was received before, or is too far behind
    /// the largest one to tell.
    pub fn accept(&mut self, number: u64) -> bool {
        if number > self.highest {
            let by = number - self.highest;
            self.received = if by < WINDOW {
                self.received << by | 1
            } else {
                1
            };
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        let bit = 1_u64.checked_shl(u32::try_from(behind).unwrap_or(u32::MAX));
        match bit {
            Some(bit) if number > 0 && self.received & bit == 0 => {
                self.received |= bit;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extreme_numbers() {
        let mut window = ReplayWindow::default();
        assert!(!window.accept(0));
        assert!(window.accept(u64::MAX) && !window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - 63) && !window.accept(u64::MAX - 64));
        assert!(!window.accept(0) && !window.accept(1));
    }

    proptest! {
        /// Each number is accepted once, and those less than 64 behind at least once.
        #[test]
        fn accepts_each_number_once(numbers in prop::collection::vec(1_u64..200, 0..300)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let highest = seen.last().copied().unwrap_or(0);
                let expected = !seen.contains(&number) && number + WINDOW > highest;
                prop_assert_eq!(window.accept(number), expected);
                if expected {
                    seen.insert(number);
                }
            }
        }
    }
}
