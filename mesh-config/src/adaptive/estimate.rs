//! How much traffic a key has.
//!
//! Counts of rare events scatter: of a key with 9 traces per window one sees 3 to 15. Such noise
//! must be averaged, and a real change must not. A change of a count is judged on the scale on which
//! noise has the same size everywhere (the square root of a Poisson count varies by a half): beyond
//! [`CHANGE_SIGMAS`] the mean starts anew from the newest window.
//!
//! A key with less than one trace per window never shows a significant change alone, but thousands
//! of them do together. So keys of about the same size form a band, and when a band's sum changes
//! significantly all its means are scaled with it. The same correction takes out the bias of rare
//! keys, which become known by a trace and so look busier than they are.

/// Standard deviations from which a count is a change: by chance once in 370 windows, and then the
/// only harm is a shorter average.
const CHANGE_SIGMAS: f64 = 3.0;
/// A band covers two binary exponents of a double: its smallest and largest means differ by at most
/// a factor of four.
const EXPONENTS_PER_BAND: usize = 2;
/// Bands for every exponent that a double can have.
const BANDS: usize = 2048 / EXPONENTS_PER_BAND;

/// A running mean of a key's traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    per_second: f64,
    /// Windows in the mean; at most the reciprocal of the smoothing.
    windows: f64,
    idle_windows: u32,
    /// The key stopped: its traffic is remembered, and is not to be expected.
    silent: bool,
}

impl Estimate {
    /// From the first window of a key.
    pub(super) const fn first(per_second: f64) -> Self {
        Self {
            per_second,
            windows: 1.0,
            idle_windows: 0,
            silent: false,
        }
    }

    /// Mean, windows in it, windows without a trace, and whether the key stopped.
    pub(super) const fn parts(&self) -> (f64, f64, u32, bool) {
        (
            self.per_second,
            self.windows,
            self.idle_windows,
            self.silent,
        )
    }

    /// From what [`Estimate::parts`] said, perhaps damaged since.
    pub(super) fn from_parts(
        per_second: f64,
        windows: f64,
        idle_windows: u32,
        silent: bool,
    ) -> Self {
        Self {
            per_second: super::snapshot::traffic(per_second),
            windows: super::snapshot::traffic(windows).max(1.0),
            idle_windows,
            silent,
        }
    }

    /// The traffic on which the key's rate is based.
    pub(super) const fn per_second(&self) -> f64 {
        self.per_second
    }

    /// The traffic for which it claims a part of the target.
    pub(super) const fn claim_per_second(&self) -> f64 {
        if self.silent { 0.0 } else { self.per_second }
    }

    /// Windows without a trace until now.
    pub(super) const fn idle_windows(&self) -> u32 {
        self.idle_windows
    }

    /// How far a count lies from what was expected, in standard deviations.
    fn sigmas(&self, count: f64, expected: f64) -> f64 {
        const HALF_TRACE: f64 = 0.375;
        let distance = 2.0 * ((count + HALF_TRACE).sqrt() - (expected + HALF_TRACE).sqrt());
        distance / (1.0 + 1.0 / self.windows).sqrt()
    }

    /// What the newest count says about the mean.
    fn judge(&self, count: f64, seconds: f64) -> Change {
        let sigmas = self.sigmas(count, self.per_second * seconds);
        if sigmas.abs() <= CHANGE_SIGMAS && !self.silent {
            Change::Noise
        } else if count > 0.0 {
            Change::Jump
        } else {
            Change::Silence
        }
    }

    /// Takes the newest count into the mean.
    fn take(&mut self, change: Change, per_second: f64, smoothing: f64) {
        self.idle_windows = if per_second > 0.0 {
            0
        } else {
            self.idle_windows.saturating_add(1)
        };
        match change {
            Change::Noise => {
                self.windows = (self.windows + 1.0).min(1.0 / smoothing);
                self.per_second += (per_second - self.per_second) / self.windows;
            }
            Change::Jump => {
                *self = Self::first(per_second);
            }
            Change::Silence => {
                self.silent = true;
                self.per_second /= 2.0;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Noise,
    Jump,
    Silence,
}

/// A count and the estimate it belongs to.
pub(super) struct Observation<'a> {
    pub(super) count: f64,
    pub(super) estimate: &'a mut Estimate,
}

/// Sums over the keys of about the same size whose counts changed no more than noise does.
#[derive(Clone, Copy, Default)]
struct Band {
    count: f64,
    expected: f64,
    variance: f64,
}

impl Band {
    /// By how much the band as a whole changed; 1 when that may be noise.
    fn factor(&self) -> f64 {
        let distance = self.count - self.expected;
        // One trace more or less is never a change, however little was expected.
        let noise = CHANGE_SIGMAS * (self.variance + 1.0).sqrt();
        if distance.abs() > noise && self.expected > 0.0 {
            self.count / self.expected
        } else {
            1.0
        }
    }
}

/// The band of an expected count: its exponent, coarsened.
fn band_of(expected: f64) -> usize {
    (expected.max(0.0).to_bits() >> 52) as usize / EXPONENTS_PER_BAND
}

/// Takes the counts of one window into the estimates of all keys.
pub(super) fn observe(observations: Vec<Observation<'_>>, seconds: f64, smoothing: f64) {
    let mut bands = vec![Band::default(); BANDS];
    for Observation { count, estimate } in &observations {
        if estimate.judge(*count, seconds) == Change::Noise {
            let expected = estimate.per_second * seconds;
            if let Some(band) = bands.get_mut(band_of(expected)) {
                band.count += count;
                band.expected += expected;
                band.variance += expected * (1.0 + 1.0 / estimate.windows);
            }
        }
    }
    for Observation { count, estimate } in observations {
        let change = estimate.judge(count, seconds);
        if change == Change::Noise {
            let band = bands.get(band_of(estimate.per_second * seconds));
            estimate.per_second *= band.map_or(1.0, Band::factor);
        }
        estimate.take(change, count / seconds, smoothing);
    }
}
