//! `section!`: a group of options, defined once: field, type, default, bounds and reference text.
//!
//! One definition yields the struct, its `Default`, reading with path and place, writing, the
//! reference page and the JSON Schema, so that no default is written twice.

/// Defines a section. After the default may follow `, in LOW..=HIGH` (inclusive bounds) or
/// `, @required`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field:ident : $kind:ty = $default:expr $(, in $low:literal ..= $high:literal)? $(, @$required:ident)?;
            )+
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $kind, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::setting::Setting for $name {
            fn decode(&mut self, node: &$crate::node::Node, context: &mut $crate::setting::Context) {
                const KEYS: &[&str] = &[$(stringify!($field)),+];
                for entry in context.entries(node) {
                    // Not a closure per option: there are a hundred, each a function of its own.
                    let outer = context.enter_key(&entry.key);
                    match &*entry.key {
                        $(
                            stringify!($field) => {
                                $crate::setting::Setting::decode(&mut self.$field, &entry.value, context);
                                $( $crate::decode::bounds(&mut self.$field, $low, $high, &entry.value, context); )?
                            }
                        )+
                        _ => {
                            context.leave(outer);
                            context.unknown_key(entry, KEYS);
                        }
                    }
                    context.leave(outer);
                }
                $( $( $crate::section::section!(@$required $field, node, context); )? )+
            }

            fn encode(&self) -> $crate::node::Node {
                self.encode_over(&Self::default())
            }

            fn encode_over(&self, base: &Self) -> $crate::node::Node {
                let mut entries = Vec::new();
                $(
                    if self.$field != base.$field $( || $crate::section::section!(@is $required) )? {
                        let value = self.$field.encode_over(&base.$field);
                        entries.push($crate::decode::entry(stringify!($field), value));
                    }
                )+
                $crate::node::Node { value: $crate::node::Value::Map(entries), ..Default::default() }
            }

            #[cfg(feature = "docs")]
            fn shape() -> $crate::docs::Shape {
                $crate::docs::Shape::Section($crate::docs::Section {
                    doc: concat!($($doc, "\n",)*),
                    fields: vec![
                        $( $crate::docs::Field {
                            name: stringify!($field),
                            doc: concat!($($field_doc, "\n",)*),
                            shape: <$kind as $crate::setting::Setting>::shape(),
                            default: $crate::setting::Setting::encode(&Self::default().$field),
                            bounds: None $( .or(Some(($low, $high))) )?,
                            required: false $( || $crate::section::section!(@is $required) )?,
                        } ),+
                    ],
                })
            }
        }
    };
    (@required $field:ident, $node:ident, $context:ident) => {
        if $node.get(stringify!($field)).is_none() {
            $context.missing($node.mark, stringify!($field));
        }
    };
    (@is required) => { true };
}

pub(crate) use section;
