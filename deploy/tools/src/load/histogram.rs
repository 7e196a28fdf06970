//! A latency histogram of fixed size: 64 steps to each power of two, so that any quantile is right within
//! 1.6 %. Values are microseconds. It knows nothing of clocks; load clients, `send` and the receiver fill it.

/// Steps within one power of two, as a power of two itself.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// Values above 2^36 us (19 hours) are counted in the last bucket.
const BUCKETS: usize = ((36 - STEP_BITS as usize) + 1) * STEPS as usize;

#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_us: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            sum_us: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    pub fn record(&mut self, value_us: u64) {
        self.counts[bucket(value_us)] += 1;
        self.total += 1;
        self.sum_us = self.sum_us.saturating_add(value_us);
        self.max_us = self.max_us.max(value_us);
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The value below which a share `q` (0 to 1) of all values lies; 0 where there is none.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> u64 {
        let rank = (q * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(index).min(self.max_us);
            }
        }
        self.max_us
    }

    /// The quantiles that tables show.
    #[must_use]
    pub fn summary(&self) -> Latency {
        Latency {
            p50_ms: self.quantile_us(0.50) as f64 / 1000.0,
            p90_ms: self.quantile_us(0.90) as f64 / 1000.0,
            p99_ms: self.quantile_us(0.99) as f64 / 1000.0,
            max_ms: self.max_us as f64 / 1000.0,
        }
    }
}

/// Latency in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

fn bucket(value_us: u64) -> usize {
    if value_us < STEPS {
        return value_us as usize;
    }
    let power = 63 - value_us.leading_zeros() - STEP_BITS;
    let step = (value_us >> power) - STEPS;
    let index = (u64::from(power) + 1) * STEPS + step;
    (index as usize).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let power = index / STEPS - 1;
    let step = index % STEPS;
    ((STEPS + step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_bucket_and_close_to_its_bound() {
        for value in (0..200).chain([999, 1_000, 65_535, 65_536, 1_234_567, 3_600_000_000]) {
            let bound = upper_bound(bucket(value));
            assert!(bound >= value, "{value} above its bound {bound}");
            assert!(bound - value <= value / 64, "{value} far from {bound}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        for value in 1..=1_000u64 {
            histogram.record(value * 10);
        }
        let near = |q: f64, want: f64| {
            let got = histogram.quantile_us(q) as f64;
            assert!((got - want).abs() <= want * 0.02, "q{q}: {got} for {want}");
        };
        near(0.5, 5_000.0);
        near(0.99, 9_900.0);
        assert_eq!(histogram.quantile_us(1.0), 10_000);
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }

    #[test]
    fn a_merged_histogram_is_the_histogram_of_all_values() {
        let (mut a, mut b, mut all) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for value in 0..500u64 {
            let half = if value % 3 == 0 { &mut a } else { &mut b };
            half.record(value * value);
            all.record(value * value);
        }
        a.merge(&b);
        assert_eq!(a.count(), all.count());
        assert_eq!(a.summary(), all.summary());
    }
}
