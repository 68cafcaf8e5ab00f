//! Sections of the file in which every key may be left out: what isn't written
//! is taken from `defaults`, then from the model.

use std::num::NonZeroU16;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::config::text::{
    Duration, HashOn, HeaderName, HeaderValue, Headers, LimitBy, Parameter, Percent, RequestPath,
    Size, StatusRange,
};

/// Merging, key by key.
pub trait Over: Clone {
    /// `self` where it says something, else `defaults`.
    fn over(&self, defaults: &Self) -> Self;
}

/// A section, or `off` where `defaults` turn it on.
#[derive(Clone, Debug, PartialEq)]
pub enum Switch<T> {
    Off,
    On(T),
}

/// One, or a list of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Several<T> {
    One(T),
    Many(Vec<T>),
}

/// A mapping of which every key is an `Option`, with the default that is
/// shown for it. The keys are merged one by one.
macro_rules! section {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty $(= $default:expr)?, )*
        }
    )*) => { $(
        #[derive(
            Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize,
            schemars::JsonSchema,
        )]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                $( #[schemars(extend("default" = $default))] )?
                pub $field: Option<$type>,
            )*
        }

        impl $crate::config::raw::section::Over for $name {
            fn over(&self, defaults: &Self) -> Self {
                Self { $( $field: self.$field.over(&defaults.$field), )* }
            }
        }
    )* };
}

/// Values that are replaced whole.
macro_rules! values {
    ($($value:ty)*) => { $(
        impl $crate::config::raw::section::Over for $value {
            fn over(&self, _: &Self) -> Self {
                self.clone()
            }
        }
    )* };
}

pub(super) use {section, values};

values! {
    bool u8 u16 u32 f64 String NonZeroU16 Duration Size Percent Headers HashOn LimitBy HeaderName
    HeaderValue Parameter RequestPath StatusRange
}

impl<T: Over> Over for Option<T> {
    fn over(&self, defaults: &Self) -> Self {
        match (self, defaults) {
            (Some(own), Some(default)) => Some(own.over(default)),
            (own, default) => own.clone().or_else(|| default.clone()),
        }
    }
}

impl<T: Clone> Over for Vec<T> {
    fn over(&self, _: &Self) -> Self {
        self.clone()
    }
}

impl<T: Clone> Over for Several<T> {
    fn over(&self, _: &Self) -> Self {
        self.clone()
    }
}

impl<T: Over> Over for Switch<T> {
    fn over(&self, defaults: &Self) -> Self {
        match (self, defaults) {
            (Self::On(own), Self::On(default)) => Self::On(own.over(default)),
            _ => self.clone(),
        }
    }
}

impl<T> Switch<T> {
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(section) => Some(section),
        }
    }
}

impl<T> Several<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

/// A factor of the model, as the file writes it.
pub fn factor(ratio: crate::model::Ratio) -> f64 {
    ratio.factor()
}

/// To thousandths: finer differences have no effect worth a decimal.
pub fn ratio(factor: f64) -> crate::model::Ratio {
    crate::model::Ratio { thousandths: (factor * 1000.0).round().max(1.0) as u32 }
}

const OFF: &str = "off";

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(OFF),
            Self::On(section) => section.serialize(serializer),
        }
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value == OFF {
            return Ok(Self::Off);
        }
        T::deserialize(value).map(Self::On).map_err(D::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("SwitchOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "enum": [OFF] }] })
    }
}

impl<T: JsonSchema> JsonSchema for Several<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("SeveralOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "maxItems": MOST, "items": one }] })
    }
}

const MOST: usize = 256;
