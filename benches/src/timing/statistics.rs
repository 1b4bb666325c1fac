//! The statistics of timing checks: Welch's t with cropping, Kolmogorov and Smirnov's two-sample test.

/// Thresholds above which times are left out, and one time nothing is: an interruption is no property of the code.
pub(super) const CROPPINGS: usize = 51;

/// Mean and variance of what comes one by one (Welford, 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count;
        self.squares += from_mean * (value - self.mean);
    }

    fn variance(&self) -> f64 {
        self.squares / (self.count - 1.0)
    }
}

/// Welch's t: how far two means are apart, in deviations of their difference. 0 when a class is too small to say.
fn welch(a: &Moments, b: &Moments) -> f64 {
    if a.count < 100.0 || b.count < 100.0 {
        return 0.0;
    }
    let deviation = (a.variance() / a.count + b.variance() / b.count).sqrt();
    if deviation == 0.0 { 0.0 } else { (a.mean - b.mean).abs() / deviation }
}

/// The moments of both classes below each threshold.
pub(super) struct Cropped {
    /// Rising; the last takes everything.
    thresholds: Vec<f64>,
    classes: Vec<[Moments; 2]>,
}

impl Cropped {
    /// Thresholds are percentiles of `calibration`, closer to each other towards the top (as dudect's).
    pub(super) fn new(mut calibration: Vec<f64>) -> Cropped {
        calibration.sort_by(f64::total_cmp);
        let percentile = |number: usize| {
            let share = 1.0 - 0.5_f64.powf(10.0 * (number + 1) as f64 / CROPPINGS as f64);
            calibration[((calibration.len() as f64 * share) as usize).min(calibration.len() - 1)]
        };
        let thresholds: Vec<f64> = (0..CROPPINGS - 1).map(percentile).chain([f64::INFINITY]).collect();
        Cropped { classes: vec![[Moments::default(); 2]; thresholds.len()], thresholds }
    }

    /// One measurement of class 0 or 1.
    pub(super) fn add(&mut self, class: usize, value: f64) {
        for (threshold, classes) in self.thresholds.iter().zip(&mut self.classes) {
            if value <= *threshold {
                classes[class].add(value);
            }
        }
    }

    /// Of all that was measured, without the slowest tenth.
    pub(super) fn mean(&self) -> f64 {
        let at = self.thresholds.len() * 2 / 5;
        let [a, b] = self.classes[at];
        (a.mean * a.count + b.mean * b.count) / (a.count + b.count)
    }

    /// The largest t of all croppings.
    pub(super) fn t_max(&self) -> f64 {
        self.classes.iter().map(|[a, b]| welch(a, b)).fold(0.0, f64::max)
    }
}

/// The middle value.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Kolmogorov and Smirnov's test: how likely two samples of one distribution differ as much as these (asymptotic, for some hundred values).
pub(super) fn kolmogorov_smirnov(a: &mut [f64], b: &mut [f64]) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut in_a, mut in_b, mut distance) = (0, 0, 0.0_f64);
    while in_a < a.len() && in_b < b.len() {
        let value = a[in_a].min(b[in_b]);
        in_a += a[in_a..].iter().take_while(|other| **other <= value).count();
        in_b += b[in_b..].iter().take_while(|other| **other <= value).count();
        distance = distance.max((in_a as f64 / a.len() as f64 - in_b as f64 / b.len() as f64).abs());
    }
    let size = (a.len() * b.len()) as f64 / (a.len() + b.len()) as f64;
    let lambda = (size.sqrt() + 0.12 + 0.11 / size.sqrt()) * distance;
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |number: i32| f64::from(if number % 2 == 0 { -1 } else { 1 }) * (-2.0 * f64::from(number).powi(2) * lambda.powi(2)).exp();
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not random, but spread evenly.
    fn spread(count: usize, from: f64, to: f64) -> Vec<f64> {
        (0..count).map(|at| from + (to - from) * ((at * 7919) % count) as f64 / count as f64).collect()
    }

    #[test]
    fn t_is_that_of_a_worked_example() {
        let moments = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.add(*value));
            moments
        };
        // 100 times 1, 2, 3 and 100 times 2, 3, 4: variances 0.668896, means 2 and 3.
        let a = moments(&[1.0, 2.0, 3.0].repeat(100));
        let b = moments(&[2.0, 3.0, 4.0].repeat(100));
        assert!((a.variance() - 200.0 / 299.0).abs() < 1e-12 && (b.mean - 3.0).abs() < 1e-12);
        assert!((welch(&a, &b) - 1.0 / (2.0 * (200.0 / 299.0) / 300.0_f64).sqrt()).abs() < 1e-9);
        assert_eq!(welch(&a, &moments(&[1.0; 99])), 0.0, "too few");
    }

    #[test]
    fn cropping_finds_a_difference_that_outliers_hide() {
        let mut cropped = Cropped::new(spread(2_000, 100.0, 110.0));
        let mut hidden = [Moments::default(); 2];
        for (at, value) in spread(20_000, 100.0, 110.0).into_iter().enumerate() {
            let class = at % 2;
            // One in a hundred is interrupted.
            let value = if at % 101 == 0 { value * 1000.0 } else { value + 0.5 * class as f64 };
            cropped.add(class, value);
            hidden[class].add(value);
        }
        assert!(welch(&hidden[0], &hidden[1]) < 4.5 && cropped.t_max() > 4.5, "{}", cropped.t_max());
        assert!((100.0..111.0).contains(&cropped.mean()), "{}", cropped.mean());
    }

    #[test]
    fn the_test_of_distributions_tells_a_shift_and_nothing_else() {
        let same = kolmogorov_smirnov(&mut spread(1_000, 0.0, 1.0), &mut spread(900, 0.0, 1.0));
        let shifted = kolmogorov_smirnov(&mut spread(1_000, 0.0, 1.0), &mut spread(900, 0.1, 1.1));
        assert!(same > 0.9 && shifted < 0.001, "{same}, {shifted}");
        // Smirnov's table: 1.36 is passed once in twenty.
        let (mut a, mut b) = (spread(10_000, 0.0, 1.0), spread(10_000, 1.36 * 2.0_f64.sqrt() / 100.0, 1.0 + 1.36 * 2.0_f64.sqrt() / 100.0));
        let p = kolmogorov_smirnov(&mut a, &mut b);
        assert!((0.04..0.06).contains(&p), "{p}");
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
