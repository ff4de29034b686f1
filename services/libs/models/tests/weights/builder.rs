//! Writing checkpoints by hand: pickles opcode by opcode, and the archive around them.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Names of the smallest text tower that a file can imply.
pub(crate) const TOKENS: &str = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
pub(crate) const POSITIONS: &str = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight";
pub(crate) const FC1: &str = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight";

/// A pickle of protocol 2, as `torch.save` writes it.
#[derive(Clone)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    /// Appends opcodes and their arguments as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    /// An integer of 64 bits, as LONG1.
    pub(crate) fn int(self, int: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&int.to_le_bytes())
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn tuple(self, ints: &[i64]) -> Self {
        ints.iter().fold(self.raw(b"("), |pickle, int| pickle.int(*int)).raw(b"t")
    }

    /// `torch._utils._rebuild_tensor_v2` of a storage.
    pub(crate) fn tensor(self, tensor: &Tensor) -> Self {
        let storage = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
        let storage = storage.global("torch", tensor.class).text(tensor.key).text("cpu").int(tensor.count).raw(b"tQ");
        let arguments = storage.int(tensor.offset).tuple(&tensor.shape).tuple(&tensor.strides).raw(b"\x89");
        arguments.global("collections", "OrderedDict").raw(b")RtR")
    }

    /// `{"state_dict": {name: tensor, …}}` and the end.
    pub(crate) fn checkpoint(self, tensors: &[(&str, Tensor)]) -> Self {
        let start = self.raw(b"}").text("state_dict").raw(b"}(");
        let all = tensors.iter().fold(start, |pickle, (name, tensor)| pickle.text(name).tensor(tensor));
        all.raw(b"us.")
    }
}

/// A tensor as a pickle describes it, true or not.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) class: &'static str,
    pub(crate) key: &'static str,
    /// Elements of the storage.
    pub(crate) count: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl Tensor {
    /// Rows of 64 f32 in a storage of their own.
    pub(crate) fn rows(key: &'static str, rows: i64) -> Self {
        Self { class: "FloatStorage", key, count: rows * 64, offset: 0, shape: vec![rows, 64], strides: vec![64, 1] }
    }
}

/// A text tower of one layer and two tokens.
pub(crate) fn tower() -> Vec<(&'static str, Tensor)> {
    vec![(TOKENS, Tensor::rows("0", 3)), (POSITIONS, Tensor::rows("1", 3)), (FC1, Tensor::rows("2", 2))]
}

/// The archive of a pickle and of three storages with as many bytes as [`tower`] says.
pub(crate) fn archive(pickle: &Pickle) -> Vec<u8> {
    archive_with(pickle, CompressionMethod::Stored, &[("0", 3 * 256), ("1", 3 * 256), ("2", 2 * 256)])
}

/// The archive of a pickle and of storages of so many bytes.
pub(crate) fn archive_with(pickle: &Pickle, method: CompressionMethod, storages: &[(&str, usize)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(&pickle.0).unwrap();
    for (key, len) in storages {
        zip.start_file(format!("archive/data/{key}"), options).unwrap();
        zip.write_all(&vec![0; *len]).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A whole, sound checkpoint of the small text tower.
pub(crate) fn checkpoint() -> Vec<u8> {
    archive(&Pickle::new().checkpoint(&tower()))
}
