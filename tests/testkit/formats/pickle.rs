//! Writing a pickle of protocol 2, as Python's `pickle.py` does, without its memo.

/// A pickle being written. Each method appends one value, or the opcodes between values.
pub(super) struct Pickle(Vec<u8>);

impl Pickle {
    pub(super) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    /// Ends the pickle.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'.');
        self.0
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn none(&mut self) -> &mut Self {
        self.raw(b"N")
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { b"\x88" } else { b"\x89" })
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    /// Floats are the one big-endian thing in a pickle.
    pub(super) fn float(&mut self, value: f64) -> &mut Self {
        self.raw(b"G").raw(&value.to_be_bytes())
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.raw(b"X").raw(&(value.len() as u32).to_le_bytes()).raw(value.as_bytes())
    }

    /// A class or function.
    pub(super) fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(super) fn tuple(&mut self, items: impl FnOnce(&mut Self)) -> &mut Self {
        self.raw(b"(");
        items(self);
        self.raw(b"t")
    }

    pub(super) fn list(&mut self, items: impl FnOnce(&mut Self)) -> &mut Self {
        self.raw(b"](");
        items(self);
        self.raw(b"e")
    }

    /// A dictionary, of keys and values in turn.
    pub(super) fn dict(&mut self, items: impl FnOnce(&mut Self)) -> &mut Self {
        self.raw(b"}(");
        items(self);
        self.raw(b"u")
    }

    /// `collections.OrderedDict()`, then filled.
    pub(super) fn ordered_dict(&mut self, items: impl FnOnce(&mut Self)) -> &mut Self {
        self.global("collections", "OrderedDict").raw(b")R(");
        items(self);
        self.raw(b"u")
    }

    /// `callable(*arguments)`.
    pub(super) fn call(&mut self, module: &str, name: &str, arguments: impl FnOnce(&mut Self)) -> &mut Self {
        self.global(module, name).tuple(arguments).raw(b"R")
    }

    /// `cls.__new__(cls)` with a state of keys and values in turn.
    pub(super) fn object(&mut self, module: &str, name: &str, state: impl FnOnce(&mut Self)) -> &mut Self {
        self.global(module, name).raw(b")\x81").dict(state).raw(b"b")
    }

    /// A contiguous torch tensor over the whole of the storage `key`.
    pub(super) fn tensor(&mut self, storage: &str, key: &str, shape: &[usize]) -> &mut Self {
        let count: usize = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        self.call("torch._utils", "_rebuild_tensor_v2", |pickle| {
            pickle.tuple(|id| {
                id.text("storage").global("torch", storage).text(key).text("cpu").int(count as i64);
            });
            pickle.raw(b"Q").int(0);
            for counts in [shape, &strides] {
                pickle.tuple(|tuple| {
                    for count in counts {
                        tuple.int(*count as i64);
                    }
                });
            }
            pickle.bool(false).ordered_dict(|_| {});
        })
    }
}
