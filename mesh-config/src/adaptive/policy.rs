//! From the policy's `sampling` section to the controller's settings.

use super::Settings;
use crate::policy::Sampling;

impl From<&Sampling> for Settings {
    /// The static default rate is the initial one, and the low-volume floor is the floor of every
    /// key. Which keys are exempt is not a setting: the policy's sampler knows.
    fn from(sampling: &Sampling) -> Self {
        let adaptive = &sampling.adaptive;
        Self {
            target_per_second: adaptive.target_traces_per_second,
            min_rate: adaptive.min_sampling_rate.get(),
            max_rate: adaptive.max_sampling_rate.get(),
            initial_rate: sampling.default_rate.get(),
            floor_per_minute: f64::from(sampling.low_volume.traces_per_minute),
            ..Self::default()
        }
    }
}
