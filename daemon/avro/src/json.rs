//! A datum as JSON text: strict, and bounded in depth, length and work whatever the data claim.
//!
//! Not by apache-avro (0.22), which parses schemas only here: its decoder takes a string, boolean or union at the end of cut-off data for
//! null, leaves what is behind a datum unread, follows recursive schemas without a limit, and bounds arrays one by one.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Invalid;
use crate::schema::{Type, TypeId, WriterSchema};

/// Deepest nesting of arrays, maps and records.
pub const DEPTH_MAX: usize = 64;
/// What JSON may have beyond a multiple of the datum: names of fields, symbols of enums.
const JSON_BYTES_FREE: usize = 1024 * 1024;
/// Times the datum: base64 makes a byte four thirds, an escaped control character makes it six.
const JSON_TIMES_MAX: usize = 8;
/// Longest JSON in any case, bytes.
const JSON_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Longest JSON text, bytes, and most values, that a datum of `datum` bytes may become.
pub const fn json_bytes_max(datum: usize) -> usize {
    let most = datum.saturating_mul(JSON_TIMES_MAX).saturating_add(JSON_BYTES_FREE);
    if most < JSON_BYTES_MAX { most } else { JSON_BYTES_MAX }
}

const DAMAGED: &str = "the datum is damaged, or was written with another schema than its id says";

impl WriterSchema {
    /// Reads `datum` and writes it as JSON: records and maps as objects, unions as what they hold, fields that are null left out, bytes
    /// and fixed as base64, enums as strings, timestamps as whole milliseconds, numbers that JSON has not (`NaN`, `inf`, `-inf`) as text.
    ///
    /// # Errors
    /// Data that are cut off, that go on behind the datum, or that are none of this schema; nesting, length
    /// or work over the limits. The path says where.
    pub fn to_json(&self, datum: &[u8]) -> Result<Vec<u8>, Invalid> {
        let most = json_bytes_max(datum.len());
        let mut reader = Reader { types: &self.types, left: datum, out: Vec::new(), most, values: 0, depth: 0 };
        reader.value(self.root)?;
        match reader.left.len() {
            0 => Ok(reader.out),
            more => Err(Invalid::new(format!("{more} bytes behind the datum"), DAMAGED)),
        }
    }
}

struct Reader<'a> {
    types: &'a [Type],
    left: &'a [u8],
    out: Vec<u8>,
    most: usize,
    values: usize,
    depth: usize,
}

fn damaged(problem: impl Into<String>) -> Invalid {
    Invalid::new(problem, DAMAGED)
}

impl<'a> Reader<'a> {
    /// Writes the next value. Returns whether it is null.
    fn value(&mut self, id: TypeId) -> Result<bool, Invalid> {
        // Values of no bytes, in data or in JSON, are work too.
        self.values += 1;
        self.room(self.values)?;
        let types = self.types;
        // Every id comes from the schema's own compiler.
        match &types[id] {
            Type::Null => return self.text("null").map(|()| true),
            Type::Boolean => match self.take(1, "a boolean")?[0] {
                0 => self.text("false")?,
                1 => self.text("true")?,
                other => return Err(damaged(format!("{other} is no boolean"))),
            },
            Type::Int => {
                let number = self.long()?;
                let number = i32::try_from(number).map_err(|_| damaged(format!("{number} is no int")))?;
                self.text(&number.to_string())?;
            }
            Type::Long => {
                let number = self.long()?;
                self.text(&number.to_string())?;
            }
            Type::Time(parts) => {
                let time = self.long()?.div_euclid(*parts);
                self.text(&time.to_string())?;
            }
            Type::Float => {
                let number = f32::from_le_bytes(self.array("a float")?);
                self.float(number.is_finite(), number, &number.to_string())?;
            }
            Type::Double => {
                let number = f64::from_le_bytes(self.array("a double")?);
                self.float(number.is_finite(), number, &number.to_string())?;
            }
            Type::Bytes => {
                let bytes = self.prefixed("bytes")?;
                self.base64(bytes)?;
            }
            Type::Fixed(size) => {
                let bytes = self.take(*size, "a fixed")?;
                self.base64(bytes)?;
            }
            Type::String => self.string()?,
            Type::Uuid { prefixed } => self.uuid(*prefixed)?,
            Type::Enum(symbols) => {
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| damaged(format!("{index} is none of {} symbols", symbols.len())))?;
                self.quoted(symbol)?;
            }
            Type::Union(variants) => {
                let index = self.long()?;
                let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
                let variant = variant.ok_or_else(|| damaged(format!("{index} is none of {} branches", variants.len())))?;
                return self.value(*variant);
            }
            Type::Array(items) => self.nested(|reader| reader.items(*items))?,
            Type::Map(values) => self.nested(|reader| reader.entries(*values))?,
            Type::Record(fields) => self.nested(|reader| reader.fields(fields))?,
        }
        Ok(false)
    }

    fn nested(&mut self, inside: impl FnOnce(&mut Self) -> Result<(), Invalid>) -> Result<(), Invalid> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Invalid::new(format!("nested deeper than {DEPTH_MAX}"), "send a flatter record"));
        }
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn fields(&mut self, fields: &[(String, TypeId)]) -> Result<(), Invalid> {
        let mut separator = "{";
        for (name, id) in fields {
            let before = self.out.len();
            self.text(separator)?;
            self.quoted(name)?;
            self.text(":")?;
            if self.value(*id).map_err(|e| e.within(name))? {
                self.out.truncate(before);
            } else {
                separator = ",";
            }
        }
        self.text(if separator == "{" { "{}" } else { "}" })
    }

    fn entries(&mut self, values: TypeId) -> Result<(), Invalid> {
        let mut separator = "{";
        loop {
            let count = self.block()?;
            if count == 0 {
                return self.text(if separator == "{" { "{}" } else { "}" });
            }
            for _ in 0..count {
                let before = self.out.len();
                self.text(separator)?;
                let key_at = self.out.len();
                self.string()?;
                let key_end = self.out.len();
                self.text(":")?;
                let is_null = self.value(values).map_err(|e| {
                    let key = String::from_utf8_lossy(&self.out[key_at..key_end.min(self.out.len())]).into_owned();
                    e.within(key.trim_matches('"'))
                })?;
                if is_null {
                    self.out.truncate(before);
                } else {
                    separator = ",";
                }
            }
        }
    }

    fn items(&mut self, items: TypeId) -> Result<(), Invalid> {
        let (mut separator, mut index) = ("[", 0);
        loop {
            let count = self.block()?;
            if count == 0 {
                return self.text(if separator == "[" { "[]" } else { "]" });
            }
            for _ in 0..count {
                self.text(separator)?;
                // An item that is null stays: others keep their places.
                self.value(items).map_err(|e| e.at(index))?;
                (separator, index) = (",", index + 1);
            }
        }
    }

    /// How many items follow; 0 ends an array or a map.
    fn block(&mut self) -> Result<u64, Invalid> {
        let count = self.long()?;
        if count < 0 {
            // The block's size, for readers that skip it.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    fn long(&mut self) -> Result<i64, Invalid> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1, "a number")?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(damaged("a number of more than 64 bits"))
    }

    fn take(&mut self, bytes: usize, what: &str) -> Result<&'a [u8], Invalid> {
        let Some((taken, left)) = self.left.split_at_checked(bytes) else {
            return Err(damaged(format!("cut off: {what} of {bytes} bytes, {} are left", self.left.len())));
        };
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Invalid> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn prefixed(&mut self, what: &str) -> Result<&'a [u8], Invalid> {
        let length = self.long()?;
        let bytes = usize::try_from(length).map_err(|_| damaged(format!("{what} of length {length}")))?;
        self.take(bytes, what)
    }

    fn string(&mut self) -> Result<(), Invalid> {
        let bytes = self.prefixed("a string")?;
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|e| damaged(format!("invalid UTF-8 at byte {} of a string", e.valid_up_to())))?;
        self.quoted(text)
    }

    fn uuid(&mut self, prefixed: bool) -> Result<(), Invalid> {
        let bytes = if prefixed { self.prefixed("a UUID")? } else { self.take(16, "a UUID")? };
        let Ok(bytes) = <[u8; 16]>::try_from(bytes) else {
            return Err(damaged(format!("a UUID of {} bytes", bytes.len())));
        };
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        self.quoted(&format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }

    fn float(&mut self, finite: bool, number: impl serde::Serialize, shown: &str) -> Result<(), Invalid> {
        // As text, which is how JSON of Protobuf has them: a field that nobody reads refuses no record, one that is read says what it holds.
        if !finite {
            return self.quoted(shown);
        }
        self.room(self.out.len() + 32)?;
        serde_json::to_writer(&mut self.out, &number).map_err(|e| damaged(e.to_string()))
    }

    fn quoted(&mut self, text: &str) -> Result<(), Invalid> {
        self.room(self.out.len() + text.len() + 2)?;
        serde_json::to_writer(&mut self.out, text).map_err(|e| damaged(e.to_string()))?;
        self.room(self.out.len())
    }

    fn base64(&mut self, bytes: &[u8]) -> Result<(), Invalid> {
        let length = bytes.len().div_ceil(3) * 4;
        self.room(self.out.len() + length + 2)?;
        self.text("\"")?;
        let start = self.out.len();
        self.out.resize(start + length, 0);
        STANDARD.encode_slice(bytes, &mut self.out[start..]).map_err(|e| damaged(e.to_string()))?;
        self.text("\"")
    }

    fn text(&mut self, text: &str) -> Result<(), Invalid> {
        self.room(self.out.len() + text.len())?;
        // Writing to a Vec can't fail.
        let _ = self.out.write_all(text.as_bytes());
        Ok(())
    }

    fn room(&self, needed: usize) -> Result<(), Invalid> {
        if needed <= self.most {
            return Ok(());
        }
        let problem = format!("more than {} bytes of JSON, or as many values, out of so few bytes of Avro", self.most);
        Err(Invalid::new(problem, "send less in one record"))
    }
}
