//! A delay as a sum of at most three rungs: the smallest such sum that is not shorter.

use router_schemas::topics::{Ladder, Rung};

/// More hops would cost more than the rounding they save.
const MAX_HOPS: usize = 3;

/// All sums of one to three rungs, by length; made once.
#[derive(Debug, Clone)]
pub struct Plans {
    ladder: Ladder,
    plans: Vec<(i64, Vec<Rung>)>,
}

impl Plans {
    #[must_use]
    pub fn new(ladder: Ladder) -> Self {
        let mut plans: Vec<(i64, Vec<Rung>)> = Vec::new();
        let mut longer: Vec<(i64, Vec<Rung>)> = vec![(0, Vec::new())];
        for _ in 0..MAX_HOPS {
            let shorter = std::mem::take(&mut longer);
            for (sum, rungs) in &shorter {
                // Longest first; the same rungs in another order would be the same delay.
                let last = rungs.last().copied();
                for rung in ladder
                    .rungs()
                    .iter()
                    .filter(|rung| last.is_none_or(|l| **rung <= l))
                {
                    let mut rungs = rungs.clone();
                    rungs.push(*rung);
                    longer.push((sum + rung.delay_ms(), rungs));
                }
            }
            plans.extend(longer.iter().cloned());
        }
        // Of equal sums the one with fewer hops.
        plans.sort_by_key(|(sum, rungs)| (*sum, rungs.len()));
        plans.dedup_by_key(|(sum, _)| *sum);
        Self { ladder, plans }
    }

    /// The rungs to go, longest first, for a delay of at least `delay_ms`. A delay beyond three times the
    /// longest rung is cut to that.
    #[must_use]
    pub fn rungs(&self, delay_ms: i64) -> &[Rung] {
        let at = self.plans.partition_point(|(sum, _)| *sum < delay_ms);
        let (_, rungs) = self
            .plans
            .get(at)
            .or(self.plans.last())
            .expect("a ladder has a rung");
        rungs
    }

    #[must_use]
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(delay_ms: i64) -> String {
        let plans = Plans::new(Ladder::default());
        let names: Vec<String> = plans
            .rungs(delay_ms)
            .iter()
            .map(ToString::to_string)
            .collect();
        names.join("+")
    }

    #[test]
    fn delays_are_rounded_up_to_few_hops() {
        assert_eq!(names(0), "1s");
        assert_eq!(names(5_000), "5s");
        assert_eq!(names(5_001), "5s+1s");
        assert_eq!(names(21_600_000), "6h");
        assert_eq!(names(i64::MAX), "6h+6h+6h");
    }

    proptest! {
        #[test]
        fn a_plan_is_never_shorter_and_never_has_more_than_three_hops(delay_ms in 1i64..64_800_000) {
            let plans = Plans::new(Ladder::default());
            let rungs = plans.rungs(delay_ms);
            let sum: i64 = rungs.iter().map(|rung| rung.delay_ms()).sum();
            prop_assert!(sum >= delay_ms && rungs.len() <= 3);
            prop_assert!(rungs.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
}
