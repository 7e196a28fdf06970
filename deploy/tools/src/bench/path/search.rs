//! Which rate to try next: upwards in steps until one is too high, then halving what lies between. Pure.

/// Rates closer together than this say the same.
const RESOLUTION: f64 = 0.06;
const STEP_UP: f64 = 1.5;

pub(super) struct Search {
    next: f64,
    ceiling: f64,
    best: Option<f64>,
    too_high: Option<f64>,
    done: bool,
}

impl Search {
    pub(super) fn new(first: f64, ceiling: f64) -> Self {
        Self {
            next: first,
            ceiling,
            best: None,
            too_high: None,
            done: false,
        }
    }

    /// `None` when the answer is as exact as it gets.
    pub(super) fn next_rate(&self) -> Option<f64> {
        (!self.done).then_some(self.next)
    }

    /// The highest rate that was sustained.
    pub(super) fn best(&self) -> Option<f64> {
        self.best
    }

    /// Whether the last rate was sustained.
    pub(super) fn tell(&mut self, sustained: bool) {
        if sustained {
            self.best = Some(self.next);
        } else {
            self.too_high = Some(self.next);
        }
        match (self.best, self.too_high) {
            (Some(best), None) => {
                self.done = best >= self.ceiling;
                self.next = (best * STEP_UP).min(self.ceiling);
            }
            (Some(best), Some(high)) => {
                self.done = high - best <= best * RESOLUTION;
                self.next = f64::midpoint(best, high);
            }
            (None, Some(high)) => {
                // Below this no figure would be of use to anyone.
                self.done = high < 50.0;
                self.next = high / 2.0;
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64, ceiling: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(1_000.0, ceiling);
        let mut trials = 0;
        while let Some(rate) = search.next_rate() {
            trials += 1;
            assert!(trials < 40, "it must end");
            search.tell(rate <= limit);
        }
        (search.best(), trials)
    }

    #[test]
    fn the_limit_is_found_within_a_few_trials() {
        for limit in [300.0, 999.0, 4_200.0, 6_100.0] {
            let (best, trials) = found(limit, 20_000.0);
            let best = best.expect("some rate is sustained");
            assert!(best <= limit && best > limit * 0.9, "{best} for {limit}");
            assert!(trials <= 14, "{trials}");
        }
    }

    #[test]
    fn it_ends_at_the_ceiling_and_at_nothing() {
        assert_eq!(found(f64::MAX, 3_000.0).0, Some(3_000.0));
        assert_eq!(found(0.0, 3_000.0).0, None);
    }
}
