//! What a detector can find.

use crate::DataTag;
use core::fmt;

/// What was found, or why something is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The name of the attribute or header.
    Name,
    /// An e-mail address.
    Email,
    /// A payment card number: issuer prefix, length and check digit.
    PaymentCard,
    /// A telephone number in international form, or in the separated form of North America.
    Phone,
    /// A social security number of the United States.
    UsSsn,
    /// A national insurance number of the United Kingdom.
    UkNino,
    /// An international bank account number: country's length and check digits.
    Iban,
    /// A JSON web token.
    Jwt,
    /// An access key id of Amazon Web Services.
    AwsAccessKey,
    /// A private key in PEM form.
    PrivateKey,
    /// The credentials of an `Authorization` header.
    AuthorizationValue,
    /// User and password inside a URL.
    UrlCredentials,
    /// A token with the prefix that its issuer gives to all of them.
    IssuedToken,
    /// A value that stands behind a name such as `password=`.
    NamedValue,
    /// Letters and digits as random as only keys are.
    RandomSecret,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Name,
        Self::Email,
        Self::PaymentCard,
        Self::Phone,
        Self::UsSsn,
        Self::UkNino,
        Self::Iban,
        Self::Jwt,
        Self::AwsAccessKey,
        Self::PrivateKey,
        Self::AuthorizationValue,
        Self::UrlCredentials,
        Self::IssuedToken,
        Self::NamedValue,
        Self::RandomSecret,
    ];

    /// A stable label for metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
            Self::PaymentCard => "payment_card",
            Self::Phone => "phone",
            Self::UsSsn => "us_ssn",
            Self::UkNino => "uk_nino",
            Self::Iban => "iban",
            Self::Jwt => "jwt",
            Self::AwsAccessKey => "aws_access_key",
            Self::PrivateKey => "private_key",
            Self::AuthorizationValue => "authorization_value",
            Self::UrlCredentials => "url_credentials",
            Self::IssuedToken => "issued_token",
            Self::NamedValue => "named_value",
            Self::RandomSecret => "random_secret",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A part of a value that is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Its class.
    pub tag: DataTag,
    /// Index of its first byte.
    pub start: usize,
    /// Index after its last byte.
    pub end: usize,
}
