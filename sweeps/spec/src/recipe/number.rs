//! Numbers and sizes that a recipe may write as text or as numbers.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::raw::RawShape;
use crate::units::{parse_count, parse_number};

/// A whole positive number: `300000`, `"300k"`, `"3e5"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// A positive number: `1e15`, `"1e15"`, `"2.5P"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

/// A model size: parameters, or width and layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Total parameters.
    Parameters(u64),
    /// Width and layers.
    Shape(RawShape),
}

struct CountVisitor;

impl de::Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count such as 300_000 or \"300k\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
        parse_count(text).map(Count).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Count, E> {
        self.visit_str(&value.to_string())
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct NumberVisitor;

impl de::Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a positive number such as 1e15 or \"1e15\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
        parse_number(text).map(Number).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
        self.visit_str(&value.to_string())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct SizeVisitor;

impl<'de> de::Visitor<'de> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters such as \"300k\", or { width = 64, layers = 2 }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        CountVisitor.visit_str(text).map(|count| Size::Parameters(count.0))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Size, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Size, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Size, A::Error> {
        RawShape::deserialize(de::value::MapAccessDeserializer::new(map)).map(Size::Shape)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Numbers go out as numbers: defaults in the schema are shown so.
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

const NUMBER_PATTERN: &str = r"^[0-9_.]+([eE][+-]?[0-9]+)?[kMGBTPE]?$";

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole positive number: 300000, \"300k\", \"3e5\"",
            "oneOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": NUMBER_PATTERN },
            ],
        })
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A positive number: 1e15, \"1e15\", \"2.5P\"",
            "oneOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": NUMBER_PATTERN },
            ],
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let count = generator.subschema_for::<Count>();
        let shape = generator.subschema_for::<RawShape>();
        json_schema!({
            "description": "A model size: total parameters, or width and layers",
            "oneOf": [count, shape],
        })
    }
}
