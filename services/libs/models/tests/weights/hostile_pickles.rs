//! Checkpoints made to harm: nothing is executed, nothing grows without bound, and each is refused with its reason.

use super::builder::{self, FC1, POSITIONS, Pickle, TOKENS, Tensor, tower};
use super::{refusal, text_encoder};

/// Why a checkpoint with this pickle is refused.
fn pickle_refusal(pickle: &Pickle) -> String {
    refusal("hostile.ckpt", &builder::archive(pickle))
}

/// Why a checkpoint is refused whose token embedding is this tensor.
fn tensor_refusal(tensor: Tensor) -> String {
    let tensors = [(TOKENS, tensor), (POSITIONS, Tensor::rows("1", 3)), (FC1, Tensor::rows("2", 2))];
    let message = pickle_refusal(&Pickle::new().checkpoint(&tensors));
    assert!(message.contains("hostile.ckpt is malformed: "), "{message}");
    message
}

/// `os.system("touch …")` for a file that must not come to be.
fn attack(pickle: Pickle, marker: &std::path::Path) -> Pickle {
    pickle.global("posix", "system").text(&format!("touch {}", marker.display())).raw(b"\x85R")
}

#[test]
fn a_command_is_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("owned");
    let message = pickle_refusal(&attack(Pickle::new(), &marker).raw(b"."));
    assert!(
        message
            .ends_with("its pickle holds no state_dict: it is an object made by posix.system, which is not executed"),
        "{message}"
    );
    // Among sound weights it is stepped over like any other object.
    let around = attack(Pickle::new().raw(b"}").text("callbacks"), &marker).raw(b"s").text("state_dict").raw(b"}(");
    let whole = tower().iter().fold(around, |pickle, (name, tensor)| pickle.text(name).tensor(tensor)).raw(b"us.");
    assert!(text_encoder("model.ckpt", &builder::archive(&whole)).is_ok());
    assert!(!marker.exists());
}

#[test]
fn what_classes_would_do_with_state_is_swallowed() {
    let object = Pickle::new().raw(b"}").text("callbacks").global("evil", "Class");
    // NEWOBJ, then BUILD, APPENDS and SETITEMS on it; INST and OBJ; the class itself called twice over.
    let object =
        object.raw(b")\x81}b(NNe(NNu0(ievil\nInstance\n0(cevil\nOther\nNo)R)R").raw(b"s").text("state_dict").raw(b"}(");
    let whole = tower().iter().fold(object, |pickle, (name, tensor)| pickle.text(name).tensor(tensor)).raw(b"us.");
    text_encoder("model.ckpt", &builder::archive(&whole)).unwrap();
}

#[test]
fn nonsense_is_refused_at_its_offset() {
    for (bytes, message) in [
        (&b"\x80\x02\xff"[..], "archive/data.pkl at offset 2: 0xff is not an opcode of protocols 2 to 5"),
        (b"\x80\x07.", "at offset 0: pickle protocol 7; 2 to 5 are read"),
        (b"I01\n.", "at offset 0: 0x49 is not an opcode"),
        (b"\x80\x02.", "at offset 2: an opcode takes a value from an empty stack"),
        (b"", "at offset 0: the pickle is cut short: 1 bytes are needed and 0 are left"),
        (b"(0N\x85t.", "at offset 4: an opcode needs a mark that was never set"),
        (b"(N(\x85", "at offset 3: an opcode takes a value from an empty stack"),
        (b"h\x05.", "at offset 0: memo 5 was never stored"),
        (b"}(Nu.", "at offset 3: a dictionary's last key has no value"),
        (b"N(Ne.", "at offset 3: items are appended to None"),
        (b"]NNs.", "at offset 3: entries are set in a list"),
        (b"N)R.", "at offset 2: None is called"),
        (b"cos\nsystem\nNR.", "at offset 12: a call's arguments are None"),
        (b"NQ.", "at offset 1: a persistent id is not that of a storage"),
        (b"NN\x93.", "at offset 2: a global's module and name are not strings"),
        (b"cos\nsys", "at offset 0: the pickle ends within a name"),
        (b"X\x02\0\0\0\xff\xfe.", "at offset 0: a string is not UTF-8"),
        (b"N.", "its pickle holds no state_dict: it is None"),
        (b"}.", "its pickle holds no state_dict: it is a dictionary without tensors"),
    ] {
        let found = pickle_refusal(&Pickle(bytes.to_vec()));
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    for (bytes, needed) in [
        (&b"\x8b\xff\xff\xff\xff"[..], "4294967295"),
        (b"X\xff\xff\xff\x7f", "2147483647"),
        (b"B\xff\xff\xff\xff", "4294967295"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f", "9223372036854775807"),
    ] {
        let found = pickle_refusal(&Pickle(bytes.to_vec()));
        assert!(
            found.contains(&format!("the pickle is cut short: {needed} bytes are needed and 0 are left")),
            "{found}"
        );
    }
}

#[test]
fn depth_is_harmless_and_bounded() {
    for (bytes, message) in [
        ([b"N".to_vec(), b"\x85".repeat(1 << 20), b".".to_vec()].concat(), "it is a tuple"),
        ([b"]".repeat(1 << 20), b"a".repeat((1 << 20) - 1), b".".to_vec()].concat(), "it is a list"),
        ([b"N".to_vec(), b"\x85".repeat(3 << 20)].concat(), "it makes more than 2097152 objects"),
        (b"(".repeat(3 << 20), "it nests more than 2097152 marks"),
        (b"N".repeat(3 << 20), "it stacks more than 2097152 values"),
    ] {
        let found = pickle_refusal(&Pickle(bytes));
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn cycles_end() {
    // A dictionary that is its own state_dict, and a list that holds itself.
    let dictionary = Pickle::new().raw(b"}q\0").text("state_dict").raw(b"h\0s.");
    assert!(pickle_refusal(&dictionary).contains("holds no text encoder"));
    let list = Pickle::new().raw(b"]q\0h\0a.");
    assert!(pickle_refusal(&list).ends_with("it is a list"));
    // A tensor's size that is a tuple of itself by way of a list.
    let size = Pickle::new().global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
    let size = size.global("torch", "FloatStorage").text("0").text("cpu").int(192).raw(b"tQK\0]q\0h\0ah\0h\0\x89NtR.");
    assert!(pickle_refusal(&size).contains("a tensor's size or stride is a list"), "{}", pickle_refusal(&size));
}

#[test]
fn laughs_do_not_multiply() {
    // Lists of ten times the list before: sharing keeps them small.
    let laughs = (0..9).fold(Pickle::new().raw(b"]q\0"), |pickle, level: u8| {
        let again = [b'h', level].repeat(10);
        pickle.raw(b"](").raw(&again).raw(b"eq").raw(&[level + 1])
    });
    assert!(pickle_refusal(&laughs.raw(b".")).ends_with("it is a list"));
    // The one call that copies: an OrderedDict of a long list, again and again.
    let pairs = Pickle::new().raw(b"NN\x86q\x010](").raw(&b"h\x01".repeat(50_000)).raw(b"eq\0\x85q\x020");
    let copies =
        pairs.global("collections", "OrderedDict").raw(b"q\x030").raw(&b"h\x03h\x02R".repeat(100_000)).raw(b".");
    assert!(pickle_refusal(&copies).contains("its containers hold more than 4194304 values"));
}

#[test]
fn storages_that_lie_are_refused() {
    let rows = || Tensor::rows("0", 3);
    for (tensor, message) in [
        (Tensor { count: 193, ..rows() }, "storage 0 claims 193 elements of f32, its entry has 768 bytes"),
        (Tensor { count: i64::MAX, ..rows() }, "storage 0 claims 9223372036854775807 elements of f32"),
        (Tensor { key: "9", ..rows() }, "entry archive/data/9: it is missing"),
        (Tensor { key: "../data.pkl", ..rows() }, "entry archive/data/../data.pkl: it is missing"),
        (Tensor { shape: vec![4, 64], ..rows() }, "shape [4, 64] of f32 takes 1024 bytes, its storage has 768"),
        (Tensor { offset: 1, ..rows() }, "offset 1, shape [3, 64] and strides [64, 1] reach outside of its storage"),
        (Tensor { offset: i64::MAX, ..rows() }, "reach outside of its storage"),
        (Tensor { strides: vec![65, 1], ..rows() }, "strides [65, 1] reach outside of its storage"),
        (Tensor { strides: vec![i64::MAX, i64::MAX], ..rows() }, "reach outside of its storage"),
        (Tensor { strides: vec![1], ..rows() }, "1 strides for 2 dimensions"),
        (Tensor { shape: vec![1 << 40, 1 << 40], strides: vec![0, 0], ..rows() }, "is larger than any memory"),
        (Tensor { shape: vec![1 << 40], strides: vec![0], ..rows() }, "bytes, its storage has 768"),
        (Tensor { shape: vec![1; 9], strides: vec![1; 9], ..rows() }, "a tensor of 9 dimensions; at most 8 are read"),
    ] {
        let found = tensor_refusal(tensor);
        assert!(found.contains(message), "{found}");
    }
    for tensor in [
        Tensor { shape: vec![-3, 64], ..rows() },
        Tensor { offset: -3, ..rows() },
        Tensor { strides: vec![-3, 1], ..rows() },
    ] {
        assert!(tensor_refusal(tensor).contains("a tensor's size or stride is -3"));
    }
    assert!(tensor_refusal(Tensor { count: -3, ..rows() }).contains("a storage of -3 elements"));
}

#[test]
fn long_names_do_not_flood_the_message() {
    let name = "n".repeat(1 << 20);
    let message = refusal("model.ckpt", &builder::archive(&Pickle::new().checkpoint(&[(&name, Tensor::rows("0", 9))])));
    assert!(message.contains("is malformed: tensor nnn") && message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn many_tensors_of_one_storage_do_not_stand_for_terabytes() {
    let names: Vec<String> = (0..30_000).map(|index| format!("t{index}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), Tensor::rows("0", 40))).collect();
    let pickle = Pickle::new().checkpoint(&tensors);
    let bytes = builder::archive_with(&pickle, zip::CompressionMethod::Deflated, &[("0", 40 * 256)]);
    let message = refusal("shared.ckpt", &bytes);
    assert!(message.contains("they overlap"), "{message}");
}

#[test]
fn a_checkpoint_cut_short_anywhere_is_refused() {
    let whole = builder::checkpoint();
    for len in 0..whole.len() {
        refusal("short.ckpt", &whole[..len]);
    }
    let pickle = Pickle::new().checkpoint(&tower());
    for len in 0..pickle.0.len() {
        let message = pickle_refusal(&Pickle(pickle.0[..len].to_vec()));
        assert!(message.contains("archive/data.pkl at offset"), "{message}");
    }
}

#[test]
fn what_is_no_checkpoint_is_said_by_name() {
    for (bytes, message) in [
        (&b""[..], "neither a safetensors file nor a torch checkpoint (0 bytes); it may have been cut short"),
        (b"<!DOCTYPE html><html>", "neither a safetensors file nor a torch checkpoint (21 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, not the weights"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "torch's format from before version 1.6"),
        (b"PK\x03\x04 and no more", "not a whole zip archive"),
    ] {
        let found = refusal("model.ckpt", bytes);
        assert!(found.contains(message), "{found}");
    }
    let mut empty = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    empty.start_file("readme.txt", zip::write::SimpleFileOptions::default()).unwrap();
    let found = refusal("model.ckpt", &empty.finish().unwrap().into_inner());
    assert!(found.contains("a zip archive without data.pkl; torch.save did not write it"), "{found}");
}
