//! From the policy's `classification` section to a classifier.

use super::{Classifier, ClassifierInputs, ClassifyError, Detectors, RedactionMode};
use crate::policy::{self, Classification};

impl From<&Classification> for ClassifierInputs {
    fn from(section: &Classification) -> Self {
        let on = &section.detectors;
        Self {
            detectors: Detectors {
                names: on.names,
                email: on.email,
                card: on.card,
                phone: on.phone,
                national_id: on.national_id,
                token: on.token,
            },
            pii_names: section.pii_names.clone(),
            sensitive_names: section.sensitive_names.clone(),
            ignored_names: section.ignored_names.clone(),
            mode: match section.redaction.mode {
                policy::RedactionMode::Mask => RedactionMode::Mask,
                policy::RedactionMode::Drop => RedactionMode::Drop,
                policy::RedactionMode::Hash => RedactionMode::Hash,
                policy::RedactionMode::Off => RedactionMode::Off,
            },
            redact_from: section.redaction.from,
            hash_key: section.redaction.hash_key.expose().to_owned(),
        }
    }
}

impl Classifier {
    /// The classifier of a policy.
    ///
    /// # Errors
    /// What [`Classifier::new`] refuses.
    pub fn from_policy(section: &Classification) -> Result<Self, ClassifyError> {
        Self::new(&ClassifierInputs::from(section))
    }
}
