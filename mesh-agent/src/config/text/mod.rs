//! Values that are written as text in a form of their own: one reader for each,
//! used by the check of the file's shape and by decoding alike.

mod address;
mod choice;
mod http;
mod kubernetes;
mod name;
mod pairs;
mod quantity;

pub use address::{Ip, Listen, Server, Url};
pub use choice::{HashOn, LimitBy, Removal};
pub use http::{
    HeaderName, HeaderValue, HostPattern, Method, Parameter, Pattern, RequestPath, StatusRange,
};
pub use kubernetes::{KubernetesName, NodeName};
pub use name::{AbsolutePath, DomainName, Hostname, LabelName, LabelValue, Name, Place};
pub use pairs::{Headers, Labels};
pub use quantity::{Duration, Percent, Size};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A form of text. `read` says what is wrong, and what would be right.
pub trait Form: Sized {
    /// `format` in the JSON Schema, by which [`problem`] finds the form.
    const FORMAT: &'static str;
    /// For editors and API servers; what it lets pass, `read` may still refuse.
    /// An API server takes no repetition of more than 1,000 times.
    const PATTERN: &'static str;
    /// In characters, where the pattern can't say it.
    const MAX_LENGTH: Option<u32> = None;
    /// What to write instead of something else altogether.
    const EXPECTED: &'static str;
    const EXAMPLES: &'static [&'static str];

    fn read(text: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

macro_rules! forms {
    ($($form:ident)*) => {
        /// What is wrong with text that should have this `format`.
        pub fn problem(format: &str, text: &str) -> Option<String> {
            match format {
                $($form::FORMAT => $form::read(text).err(),)*
                _ => None,
            }
        }

        /// What text of this `format` is, in words.
        pub fn expected(format: &str) -> Option<&'static str> {
            match format {
                $($form::FORMAT => Some($form::EXPECTED),)*
                _ => None,
            }
        }

        $(
            impl Serialize for $form {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(&self.write())
                }
            }

            impl<'de> Deserialize<'de> for $form {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    Self::read(&text).map_err(D::Error::custom)
                }
            }

            impl JsonSchema for $form {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($form).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let mut schema = json_schema!({
                        "type": "string",
                        "format": Self::FORMAT,
                        "pattern": Self::PATTERN,
                        "examples": Self::EXAMPLES,
                    });
                    if let Some(length) = Self::MAX_LENGTH {
                        schema.insert("maxLength".to_owned(), length.into());
                    }
                    schema
                }
            }
        )*
    };
}

forms! {
    AbsolutePath DomainName Duration HashOn HeaderName HeaderValue HostPattern Hostname Ip
    KubernetesName LabelName LabelValue LimitBy Listen Method Name NodeName Parameter Pattern
    Percent Place Removal RequestPath Server Size StatusRange Url
}
