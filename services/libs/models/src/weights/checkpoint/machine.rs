//! Pickle's stack machine as a reader of data.
//!
//! Every opcode takes at least one byte of the input and adds at most a few values, so time and memory are bounded by the
//! pickle's size and by [`limits`]. What a pickle wants called is in `calls`. Protocol: Python's `Lib/pickletools.py`.

use std::collections::HashMap;

use super::limits;
use super::objects::{Heap, Value};
use super::opcodes as op;
use super::reader::{Reader, Result, Span};

pub(super) struct Machine<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) heap: Heap<'a>,
    stack: Vec<Value>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl<'a> Machine<'a> {
    /// Reads a pickle to its end: the heap and the top object, or what is wrong at which offset.
    pub(super) fn run(pickle: &'a [u8]) -> std::result::Result<(Heap<'a>, Value), (usize, String)> {
        let (reader, heap) = (Reader::new(pickle), Heap::new(pickle));
        let mut machine = Self { reader, heap, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let offset = machine.reader.offset();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok((machine.heap, root)),
                Err(what) => return Err((offset, what)),
            }
        }
    }

    /// Executes one opcode; gives the top object at the end.
    fn step(&mut self) -> Result<Option<Value>> {
        match self.reader.byte()? {
            op::PROTO => self.protocol()?,
            op::FRAME => drop(self.reader.u64()?),
            op::STOP => return self.pop().map(Some),

            op::MARK => self.mark()?,
            op::POP => self.pop_value_or_mark()?,
            op::POP_MARK => drop(self.pop_to_mark()?),
            op::DUP => self.top().and_then(|top| self.push(top))?,

            op::NONE => self.push(Value::Nothing)?,
            op::NEWTRUE => self.push(Value::Bool(true))?,
            op::NEWFALSE => self.push(Value::Bool(false))?,
            op::BININT => self.reader.i32().and_then(|int| self.push(Value::Int(int.into())))?,
            op::BININT1 => self.reader.byte().and_then(|int| self.push(Value::Int(int.into())))?,
            op::BININT2 => self.reader.u16().and_then(|int| self.push(Value::Int(int.into())))?,
            op::LONG1 => self.reader.byte().and_then(|len| self.long(len.into()))?,
            op::LONG4 => self.reader.u32().and_then(|len| self.long(len.into()))?,
            op::BINFLOAT => self.skip(8)?,
            op::BINSTRING => self.reader.u32().and_then(|len| self.byte_string(len.into()))?,
            op::SHORT_BINSTRING => self.reader.byte().and_then(|len| self.byte_string(len.into()))?,
            op::BINBYTES => self.reader.u32().and_then(|len| self.skip(len.into()))?,
            op::SHORT_BINBYTES => self.reader.byte().and_then(|len| self.skip(len.into()))?,
            op::BINBYTES8 | op::BYTEARRAY8 => self.reader.u64().and_then(|len| self.skip(len))?,
            op::BINUNICODE => self.reader.u32().and_then(|len| self.unicode(len.into()))?,
            op::SHORT_BINUNICODE => self.reader.byte().and_then(|len| self.unicode(len.into()))?,
            op::BINUNICODE8 => self.reader.u64().and_then(|len| self.unicode(len))?,

            op::EMPTY_TUPLE => self.tuple(Vec::new())?,
            op::TUPLE1 => self.pop_many(1).and_then(|items| self.tuple(items))?,
            op::TUPLE2 => self.pop_many(2).and_then(|items| self.tuple(items))?,
            op::TUPLE3 => self.pop_many(3).and_then(|items| self.tuple(items))?,
            op::TUPLE => self.pop_to_mark().and_then(|items| self.tuple(items))?,
            // Sets are of no interest; as lists they take what is added to them.
            op::EMPTY_LIST | op::EMPTY_SET => self.list(Vec::new())?,
            op::LIST | op::FROZENSET => self.pop_to_mark().and_then(|items| self.list(items))?,
            op::APPEND => self.pop().and_then(|item| self.extend(vec![item]))?,
            op::APPENDS | op::ADDITEMS => self.pop_to_mark().and_then(|items| self.extend(items))?,
            op::EMPTY_DICT => self.dict(&[])?,
            op::DICT => self.pop_to_mark().and_then(|items| self.dict(&items))?,
            op::SETITEM => self.pop_many(2).and_then(|items| self.set_items(&items))?,
            op::SETITEMS => self.pop_to_mark().and_then(|items| self.set_items(&items))?,

            op::BINGET => self.reader.byte().and_then(|index| self.recall(index.into()))?,
            op::LONG_BINGET => self.reader.u32().and_then(|index| self.recall(index))?,
            op::BINPUT => self.reader.byte().and_then(|index| self.memoize(index.into()))?,
            op::LONG_BINPUT => self.reader.u32().and_then(|index| self.memoize(index))?,
            op::MEMOIZE => self.memoize(self.memo.len() as u32)?,

            op::GLOBAL => self.global()?,
            op::STACK_GLOBAL => self.stack_global()?,
            op::BINPERSID => self.persistent()?,
            op::REDUCE => self.call()?,
            op::NEWOBJ => self.pop_many(2).and_then(|parts| self.opaque(parts[0]))?,
            op::NEWOBJ_EX => self.pop_many(3).and_then(|parts| self.opaque(parts[0]))?,
            op::INST => self.instance()?,
            op::OBJ => self.object()?,
            // The state of an object; an OrderedDict's own attributes are of no interest either.
            op::BUILD => drop(self.pop_many(2).and_then(|parts| self.push(parts[0]))?),

            other => return Err(format!("{other:#04x} is not an opcode of protocols 2 to 5")),
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<()> {
        match self.reader.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other}; 2 to 5 are read")),
        }
    }

    // The stack.

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= limits::OBJECTS {
            return Err(format!("it stacks more than {} values", limits::OBJECTS));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The lowest height that may be popped to: values below the last mark belong to whoever set it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value> {
        self.stack.get(self.floor()..).and_then(|values| values.last()).copied().ok_or_else(underflow)
    }

    pub(super) fn pop(&mut self) -> Result<Value> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let height =
            self.stack.len().checked_sub(count).filter(|height| *height >= self.floor()).ok_or_else(underflow)?;
        Ok(self.stack.split_off(height))
    }

    fn mark(&mut self) -> Result<()> {
        if self.marks.len() >= limits::OBJECTS {
            return Err(format!("it nests more than {} marks", limits::OBJECTS));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let height = self.marks.pop().ok_or("an opcode needs a mark that was never set")?;
        Ok(self.stack.split_off(height))
    }

    fn pop_value_or_mark(&mut self) -> Result<()> {
        if self.stack.len() > self.floor() {
            self.pop().map(drop)
        } else {
            self.marks.pop().map(drop).ok_or_else(underflow)
        }
    }

    // Scalars.

    fn skip(&mut self, len: u64) -> Result<()> {
        self.reader.take(len)?;
        self.push(Value::Scalar)
    }

    /// A string of Python 2, which is text only where its bytes say so.
    fn byte_string(&mut self, len: u64) -> Result<()> {
        let start = self.reader.offset();
        let bytes = self.reader.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => self.push(Value::Text(Span { start: start as u32, len: bytes.len() as u32 })),
            Err(_) => self.push(Value::Scalar),
        }
    }

    fn unicode(&mut self, len: u64) -> Result<()> {
        let text = self.reader.text(len)?;
        self.push(Value::Text(text))
    }

    /// An integer of any length, little-endian in two's complement; those beyond 64 bits are of no interest.
    fn long(&mut self, len: u64) -> Result<()> {
        let bytes = self.reader.take(len)?;
        if bytes.len() > 8 {
            return self.push(Value::Scalar);
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    // Containers.

    fn tuple(&mut self, items: Vec<Value>) -> Result<()> {
        let tuple = self.heap.new_tuple(items)?;
        self.push(tuple)
    }

    fn list(&mut self, items: Vec<Value>) -> Result<()> {
        let list = self.heap.new_list(items)?;
        self.push(list)
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        match self.top()? {
            Value::List(id) => self.heap.extend_list(id, items),
            Value::Opaque(_) => Ok(()),
            other => Err(format!("items are appended to {}", self.heap.describe(other))),
        }
    }

    fn dict(&mut self, items: &[Value]) -> Result<()> {
        let dict = self.heap.new_dict(pairs(items)?)?;
        self.push(dict)
    }

    fn set_items(&mut self, items: &[Value]) -> Result<()> {
        let pairs = pairs(items)?;
        match self.top()? {
            Value::Dict(id) => self.heap.extend_dict(id, pairs),
            Value::Opaque(_) => Ok(()),
            other => Err(format!("entries are set in {}", self.heap.describe(other))),
        }
    }

    // The memo.

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = *self.memo.get(&index).ok_or_else(|| format!("memo {index} was never stored"))?;
        self.push(value)
    }

    fn memoize(&mut self, index: u32) -> Result<()> {
        if self.memo.len() >= limits::OBJECTS {
            return Err(format!("it memoizes more than {} values", limits::OBJECTS));
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }
}

pub(super) fn underflow() -> String {
    "an opcode takes a value from an empty stack".into()
}

fn pairs(items: &[Value]) -> Result<Vec<(Value, Value)>> {
    match items.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()),
        _ => Err("a dictionary's last key has no value".into()),
    }
}
