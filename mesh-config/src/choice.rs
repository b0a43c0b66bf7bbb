//! `choice!`: an option that takes one of a few words, defined once with its documentation.

/// Defines an enum whose variants are words of the policy, with reading, writing and reference
/// text. The first variant is the type's own default.
macro_rules! choice {
    (@first $first:ident $(, $rest:ident)*) => { Self::$first };
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $(
                $(#[doc = $variant_doc:literal])*
                $variant:ident = $word:literal,
            )+
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[doc = $variant_doc])* $variant, )+
        }

        impl $name {
            /// Every variant in the order of the definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the policy.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// Reads the exact word.
            pub fn parse(word: &str) -> Option<Self> {
                // One loop, not a comparison per word: there are many words and this is cold.
                let mut all = Self::ALL.iter();
                all.find(|found| found.as_str() == word).copied()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $crate::choice::choice!(@first $($variant),+)
            }
        }

        impl $crate::setting::Setting for $name {
            fn decode(&mut self, node: &$crate::node::Node, context: &mut $crate::setting::Context) {
                const WORDS: &[&str] = &[$($word),+];
                if let Some(word) = $crate::decode::word(node, WORDS, context)
                    && let Some(found) = Self::parse(word)
                {
                    *self = found;
                }
            }

            fn encode(&self) -> $crate::node::Node {
                $crate::decode::text_node(self.as_str())
            }

            #[cfg(feature = "docs")]
            fn shape() -> $crate::docs::Shape {
                $crate::docs::Shape::Choice(&[
                    $( ($word, concat!($($variant_doc,)*)) ),+
                ])
            }
        }
    };
}

pub(crate) use choice;
