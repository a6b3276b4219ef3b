//! A restricted pickle interpreter: enough to read a PyTorch state dict, and no code is ever run.
//!
//! Values live in one arena and refer to each other by number, so a hostile file can neither recurse nor run anything: classes that are
//! not known stay [`Value::Opaque`], whatever they are called with.

use std::collections::HashMap;

/// Values a file may make.
const VALUES_MAX: usize = 4_000_000;
/// Longest string.
const STRING_BYTES_MAX: usize = 1 << 20;

/// Number of a value in the arena.
pub(super) type Ref = usize;

/// What a pickle can hold here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Sequence(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    /// A class or function by name, not resolved.
    Global(String),
    Storage(Storage),
    Tensor(TensorRef),
    /// Something that is not needed: a class instance, bytes, a set.
    Opaque,
}

/// A storage of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    /// PyTorch's class name, such as `FloatStorage`.
    pub(super) class: String,
    /// Entry `data/<key>` of the archive.
    pub(super) key: String,
    /// Elements.
    pub(super) numel: i64,
}

/// A strided view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorRef {
    pub(super) storage: Storage,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// The values of one pickle.
#[derive(Debug)]
pub(super) struct Arena {
    values: Vec<Value>,
    /// The result.
    pub(super) root: Ref,
}

impl Arena {
    /// A value.
    pub(super) fn get(&self, at: Ref) -> &Value {
        &self.values[at]
    }

    /// The value under a text key of a dict.
    pub(super) fn entry(&self, dict: Ref, key: &str) -> Option<Ref> {
        let Value::Dict(entries) = self.get(dict) else { return None };
        // Pickle keeps the last value of a repeated key.
        entries.iter().rev().find(|(name, _)| *self.get(*name) == Value::Text(key.to_owned())).map(|(_, value)| *value)
    }
}

/// Interprets a pickle stream of protocol 2 to 5.
pub(super) fn interpret(bytes: &[u8]) -> Result<Arena, String> {
    let mut machine = Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.at;
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Arena { values: machine.values, root });
        }
        machine.step(opcode).map_err(|message| format!("pickle byte {at}: {message}"))?;
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Ref>,
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or("the stream ends early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn unsigned(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(STRING_BYTES_MAX).position(|byte| *byte == b'\n').ok_or("a line does not end")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn text(&mut self, width: usize) -> Result<String, String> {
        let length = self.unsigned(width)? as usize;
        if length > STRING_BYTES_MAX {
            return Err(format!("a string of {length} bytes is above {STRING_BYTES_MAX}"));
        }
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn skip(&mut self, width: usize) -> Result<(), String> {
        let length = self.unsigned(width)? as usize;
        self.take(length)?;
        self.push(Value::Opaque)
    }

    fn new_value(&mut self, value: Value) -> Result<Ref, String> {
        if self.values.len() >= VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        self.values.push(value);
        Ok(self.values.len() - 1)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        let new = self.new_value(value)?;
        self.stack.push(new);
        Ok(())
    }

    fn pop(&mut self) -> Result<Ref, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn top(&self) -> Result<Ref, String> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_mark(&mut self) -> Result<Vec<Ref>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Ref>, String> {
        let from = self.stack.len().checked_sub(count).ok_or("the stack is empty")?;
        Ok(self.stack.split_off(from))
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'U' | b'T' => self.string(opcode),
            b'B' => self.skip(4),
            b'C' => self.skip(1),
            0x8e | 0x96 => self.skip(8),
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' | b')' => self.push(Value::Sequence(Vec::new())),
            0x8f => self.push(Value::Opaque),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::Sequence(items))
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Value::Sequence(items))
            }
            b'd' | b'u' | b's' | b'a' | b'e' | 0x90 => self.fill(opcode),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(opcode),
            b'c' | 0x93 | b'Q' | b'R' | 0x81 | 0x92 | b'b' => self.object(opcode),
            other => Err(format!("operation {other:#04x} is not supported")),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'G' => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| "a float is cut short")?;
                Value::Float(f64::from_be_bytes(bytes))
            }
            // LONG1: little endian, two's complement; more than eight bytes is no size that matters here.
            _ => {
                let width = usize::from(self.byte()?);
                if width > 8 {
                    self.take(width)?;
                    Value::Opaque
                } else {
                    let bits = self.unsigned(width)?;
                    let unused = 64 - 8 * width as u32;
                    Value::Int(if width == 0 { 0 } else { ((bits << unused) as i64) >> unused })
                }
            }
        };
        self.push(value)
    }

    fn string(&mut self, opcode: u8) -> Result<(), String> {
        let width = match opcode {
            0x8c | b'U' => 1,
            0x8d => 8,
            _ => 4,
        };
        let text = self.text(width)?;
        self.push(Value::Text(text))
    }

    /// Operations that put items into the container below them.
    fn fill(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b's' => self.pop_many(2)?,
            b'a' => self.pop_many(1)?,
            _ => self.pop_mark()?,
        };
        if opcode == b'd' {
            let entries = pairs(&items)?;
            return self.push(Value::Dict(entries));
        }
        let target = self.top()?;
        match (&mut self.values[target], opcode) {
            (Value::Dict(entries), b'u' | b's') => entries.extend(pairs(&items)?),
            (Value::Sequence(sequence), b'a' | b'e') => sequence.extend(items),
            // Filling something that is not understood changes nothing.
            (Value::Opaque, _) => {}
            (other, _) => return Err(format!("items are put into {other:?}")),
        }
        Ok(())
    }

    fn memory(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            b'q' | b'r' | 0x94 => {
                let key = match opcode {
                    b'q' => self.unsigned(1)? as u32,
                    b'r' => self.unsigned(4)? as u32,
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            _ => {
                let key = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
                let known = *self.memo.get(&key).ok_or_else(|| format!("memo {key} is not set"))?;
                self.stack.push(known);
            }
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}")))
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let [Value::Text(module), Value::Text(name)] = [&self.values[names[0]], &self.values[names[1]]] else {
                    return Err("a class is named by something else than text".into());
                };
                let global = format!("{module}.{name}");
                self.push(Value::Global(global))
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))
            }
            // The state of an object: attributes of an OrderedDict or of a class that is not understood. Nothing needs it.
            b'b' => self.pop().map(drop),
            _ => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let value = self.call(callee, arguments)?;
                self.push(value)
            }
        }
    }

    /// The four constructors of a state dict; everything else is opaque.
    fn call(&self, callee: Ref, arguments: Ref) -> Result<Value, String> {
        let (Value::Global(name), Value::Sequence(arguments)) = (&self.values[callee], &self.values[arguments]) else {
            return Ok(Value::Opaque);
        };
        match name.as_str() {
            "collections.OrderedDict" => Ok(Value::Dict(Vec::new())),
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => self.tensor(arguments),
            "torch._utils._rebuild_parameter" => {
                let inner = *arguments.first().ok_or("a parameter holds no tensor")?;
                Ok(self.values[inner].clone())
            }
            _ => Ok(Value::Opaque),
        }
    }

    fn tensor(&self, arguments: &[Ref]) -> Result<Value, String> {
        let [storage, offset, shape, stride, ..] = arguments else {
            return Err("a tensor has fewer than four arguments".into());
        };
        let Value::Storage(storage) = &self.values[*storage] else { return Err("a tensor has no storage".into()) };
        let Value::Int(offset) = self.values[*offset] else { return Err("a tensor's offset is no integer".into()) };
        let (shape, stride) = (self.integers(*shape)?, self.integers(*stride)?);
        Ok(Value::Tensor(TensorRef { storage: storage.clone(), offset, shape, stride }))
    }

    /// Persistent id: ("storage", class, key, location, numel).
    fn storage(&self, id: Ref) -> Result<Storage, String> {
        let Value::Sequence(parts) = &self.values[id] else { return Err("a storage is not named by a tuple".into()) };
        let part = |index: usize| parts.get(index).map(|part| &self.values[*part]);
        match (part(0), part(1), part(2), part(4)) {
            (Some(Value::Text(tag)), Some(Value::Global(class)), Some(Value::Text(key)), Some(Value::Int(numel)))
                if tag == "storage" =>
            {
                let class = class.rsplit('.').next().unwrap_or(class).to_owned();
                Ok(Storage { class, key: key.clone(), numel: *numel })
            }
            _ => Err("a storage's name is not that of PyTorch".into()),
        }
    }

    fn integers(&self, at: Ref) -> Result<Vec<i64>, String> {
        let Value::Sequence(items) = &self.values[at] else { return Err("a shape is no tuple".into()) };
        let integer = |item: &Ref| match self.values[*item] {
            Value::Int(value) if value >= 0 => Ok(value),
            ref other => Err(format!("a shape holds {other:?}")),
        };
        items.iter().map(integer).collect()
    }
}

fn pairs(items: &[Ref]) -> Result<Vec<(Ref, Ref)>, String> {
    if !items.len().is_multiple_of(2) {
        return Err("a dict has a key without a value".into());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_would_run_code_stays_opaque() {
        // cos\nsystem\n(X\x04\0\0\0echo tR. : what a hostile checkpoint holds.
        let arena = interpret(b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00echotR.").unwrap();
        assert_eq!(*arena.get(arena.root), Value::Opaque);
    }

    #[test]
    fn a_dict_is_read() {
        let arena = interpret(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x05X\x01\x00\x00\x00bJ\xff\xff\xff\xffu.").unwrap();
        let at = |key| arena.get(arena.entry(arena.root, key).unwrap());
        assert_eq!(*at("a"), Value::Int(5));
        assert_eq!(*at("b"), Value::Int(-1));
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        for bytes in [&b""[..], b".", b"\x80\x02u.", b"t.", b"X\xff\xff\xff\xff", b"h\x01.", b"\x85.", b"]K\x01K\x02u."] {
            assert!(interpret(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_list_that_holds_itself_and_deep_nesting_end() {
        interpret(b"]q\x00h\x00a.").unwrap();
        let mut deep = vec![b')'; 1];
        deep.extend(std::iter::repeat_n(0x85, 200_000));
        deep.push(b'.');
        interpret(&deep).unwrap();
    }
}
