use super::*;
use crate::dataset;
use sweep_spec::data::DataSource;

fn source(globs: &[String]) -> DataSource {
    DataSource::Images { globs: globs.to_vec(), held_out: 0.2 }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn globs(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{}/{name}", self.0.path().display())).collect()
    }

    fn resolve(&self, names: &[&str]) -> Result<DataManifest, DataError> {
        dataset::resolve(&source(&self.globs(names)), &self.0.path().join("cache"))
    }

    fn error(&self, names: &[&str]) -> String {
        let error = self.resolve(names).unwrap_err().to_string();
        assert!(error.contains("hint:"), "{error}");
        error.replace(&self.0.path().display().to_string(), "DIR")
    }
}

/// Images that differ in their first value.
fn values(count: usize, length: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|image| {
            let first = u8::try_from(image).unwrap();
            std::iter::once(first).chain((1..length).map(|at| u8::try_from(at % 251).unwrap()))
        })
        .collect()
}

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(sizes.len()).unwrap()];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend_from_slice(values);
    bytes
}

/// A PNG of one colour type at 8 bits, every row with the filter of its number modulo 5.
fn png_bytes(side: usize, color: u8, values: &[u8]) -> Vec<u8> {
    let samples = match color {
        2 => 3,
        6 => 4,
        _ => 1,
    };
    let row = side * samples;
    let mut raw = Vec::new();
    for (number, line) in values.chunks_exact(row).enumerate() {
        raw.push((number % 5) as u8);
        for at in 0..row {
            let above = |at: usize| if number > 0 { values[(number - 1) * row + at] } else { 0 };
            let left = if at >= samples { line[at - samples] } else { 0 };
            let corner = if at >= samples { above(at - samples) } else { 0 };
            let (a, b, c) = (i32::from(left), i32::from(above(at)), i32::from(corner));
            let nearest = [a, b, c].into_iter().min_by_key(|x| (a + b - c - x).abs()).unwrap();
            let predicted = [0, a, b, (a + b) / 2, nearest][number % 5];
            raw.push(line[at].wrapping_sub(predicted as u8));
        }
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &raw).unwrap();
    let mut header = [side as u32, side as u32].map(u32::to_be_bytes).concat();
    header.extend([8, color, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in
        [(b"IHDR", header), (b"IDAT", packed.finish().unwrap()), (b"IEND", Vec::new())]
    {
        bytes.extend((content.len() as u32).to_be_bytes());
        let named = [name.to_vec(), content].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&named);
        bytes.extend(&named);
        bytes.extend(crc.sum().to_be_bytes());
    }
    bytes
}

/// A grey baseline JPEG of 8 x 8 pixels of level 128: one block whose coefficients are all zero.
fn jpeg_bytes() -> Vec<u8> {
    // One code of one bit, for the symbol 0.
    let table = |class: u8| {
        let counts = (0..16).map(|length| u8::from(length == 0));
        let mut bytes = vec![0xff, 0xc4, 0, 20, class];
        bytes.extend(counts);
        bytes.push(0);
        bytes
    };
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    bytes.extend([1; 64]);
    // Frame: 8 bits, 8 x 8, one component.
    bytes.extend([0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    bytes.extend(table(0x00));
    bytes.extend(table(0x10));
    bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
    // The two codes, padded with ones; the end.
    bytes.extend([0x3f, 0xff, 0xd9]);
    bytes
}

#[test]
fn idx_files_are_read_with_their_labels_and_split() {
    let folder = Folder::new();
    folder.write("a-images", &idx(&[40, 8, 8], &values(40, 64)));
    let labels: Vec<u8> = (0..40).map(|image| image % 7).collect();
    folder.write("a-labels", &idx(&[40], &labels));
    let manifest = folder.resolve(&["a-*"]).unwrap();
    assert_eq!(manifest.image, Some(ImageFacts { side: 8, channels: 1, classes: 7 }));
    assert_eq!(manifest.train_tokens + manifest.validation_tokens, 40);
    assert!(manifest.validation_tokens > 0);
    // Read back: every image once, its label beside it.
    let cache = folder.0.path().join("cache");
    let data = dataset::open(&source(&folder.globs(&["a-*"])), &cache, &manifest.id).unwrap();
    let mut seen = Vec::new();
    for (file, count) in
        [(data.train(), manifest.train_tokens), (data.validation(), manifest.validation_tokens)]
    {
        for image in 0..count {
            let mut record = [0; 65];
            file.copy(image * 65, &mut record);
            assert_eq!(record[0], record[1] % 7);
            assert_eq!(record[2..6], [1, 2, 3, 4]);
            seen.push(record[1]);
        }
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..40));
}

#[test]
fn names_and_order_do_not_matter_and_copies_count_once() {
    let (one, two) = (Folder::new(), Folder::new());
    let all = values(30, 64);
    one.write("all.idx", &idx(&[30, 8, 8], &all));
    two.write("z.idx", &idx(&[10, 8, 8], &all[..640]));
    two.write("b.npy", &npy("|u1", "(25, 8, 8)", &all[5 * 64..]));
    let (one, two) = (one.resolve(&["*.idx"]).unwrap(), two.resolve(&["*.npy", "*.idx"]).unwrap());
    assert_eq!(one.id, two.id);
}

#[test]
fn cifar_planes_become_colours() {
    let folder = Folder::new();
    let record = |first: u8| {
        let mut record = vec![first % 10];
        record.extend([vec![first; 1024], vec![100; 1024], vec![200; 1024]].concat());
        record
    };
    let bytes: Vec<u8> = (0..20).flat_map(record).collect();
    folder.write("data_batch_1.bin", &bytes);
    let Decoded::Images(pixels) = decode(&folder.0.path().join("data_batch_1.bin")).unwrap() else {
        panic!("images");
    };
    assert_eq!(pixels.size, [32, 32, 3]);
    assert_eq!(pixels.values[3072..3078], [1, 100, 200, 1, 100, 200]);
    let manifest = folder.resolve(&["*.bin"]).unwrap();
    assert_eq!(manifest.image, Some(ImageFacts { side: 32, channels: 3, classes: 10 }));
    folder.write("data_batch_1.bin", &bytes[..5000]);
    insta::assert_snapshot!(folder.error(&["*.bin"]), @"`DIR/data_batch_1.bin`: 5000 bytes are no whole number of CIFAR-10 records of 3073; hint: check that it is the binary version and was copied whole");
}

#[test]
fn pictures_in_folders_are_classes() {
    let folder = Folder::new();
    for image in 0..10_u8 {
        let class = if image % 2 == 0 { "cats" } else { "dogs" };
        let mut pixels = vec![image; 64];
        pixels[1] = 7;
        let bytes = png_bytes(8, 0, &pixels);
        folder.write(&format!("{class}/{image}.png"), &bytes);
    }
    let manifest = folder.resolve(&["*/*.png"]).unwrap();
    assert_eq!(manifest.image, Some(ImageFacts { side: 8, channels: 1, classes: 2 }));
    let manifest = folder.resolve(&["cats/*.png"]).unwrap();
    assert_eq!(manifest.image.unwrap().classes, 0);
    assert_eq!(manifest.train_tokens + manifest.validation_tokens, 5);
}

#[test]
fn transparency_is_put_on_black_and_jpeg_is_read() {
    let folder = Folder::new();
    let rgba: Vec<u8> = (0..64).flat_map(|_| [200, 100, 50, 51]).collect();
    folder.write("a.png", &png_bytes(8, 6, &rgba));
    let Decoded::Images(pixels) = decode(&folder.0.path().join("a.png")).unwrap() else {
        panic!("images");
    };
    assert_eq!((pixels.size, &pixels.values[..3]), ([8, 8, 3], &[40, 20, 10][..]));
    let rgb: Vec<u8> = (0..768_u32).map(|at| (at * at % 251) as u8).collect();
    folder.write("rgb.png", &png_bytes(16, 2, &rgb));
    let Decoded::Images(pixels) = decode(&folder.0.path().join("rgb.png")).unwrap() else {
        panic!("images");
    };
    assert_eq!((pixels.size, pixels.values), ([16, 16, 3], rgb));
    let jpeg = jpeg_bytes();
    folder.write("a.jpg", &jpeg);
    let Decoded::Images(pixels) = decode(&folder.0.path().join("a.jpg")).unwrap() else {
        panic!("images");
    };
    assert_eq!(pixels.size, [8, 8, 1]);
    assert!(pixels.values.iter().all(|&value| value == 128));
    folder.write("cut.jpg", &jpeg[..120]);
    assert!(folder.error(&["cut.jpg"]).contains("cut.jpg"));
}

#[test]
fn images_of_mixed_sizes_are_refused_by_name() {
    let folder = Folder::new();
    folder.write("a.png", &png_bytes(8, 0, &[1; 64]));
    folder.write("b.png", &png_bytes(9, 0, &[1; 81]));
    insta::assert_snapshot!(folder.error(&["*.png"]), @"`DIR/b.png`: 9 x 9 with 1 channel(s) where `DIR/a.png` is 8 x 8 with 1 channel(s); hint: bring all images to one size and colour");
}

#[test]
fn a_truncated_idx_file_is_refused_with_what_it_lacks() {
    let folder = Folder::new();
    let whole = idx(&[40, 8, 8], &values(40, 64));
    folder.write("images", &whole[..1000]);
    insta::assert_snapshot!(folder.error(&["images"]), @"`DIR/images`: IDX file announces 40 x 8 x 8 = 2560 bytes and holds 984; hint: check that the file was copied or downloaded whole");
    folder.write("images", &whole[..10]);
    insta::assert_snapshot!(folder.error(&["images"]), @"`DIR/images`: IDX file cut inside its header of 16 bytes; hint: check that the file was copied or downloaded whole");
    folder.write("images", &whole);
    folder.write("labels", &idx(&[39], &[0; 39]));
    insta::assert_snapshot!(folder.error(&["images", "labels"]), @"`DIR/labels`: 39 labels for the 40 images of `DIR/images`; hint: check that both were copied whole and belong together");
}

/// Damage ends in a message or in other pixels, never in a panic.
#[test]
fn an_image_file_with_any_byte_flipped_is_read_or_refused() {
    let files = [
        ("a-idx3-ubyte", idx(&[5, 8, 8], &values(5, 64))),
        ("a.npy", npy("|u1", "(5, 8, 8)", &values(5, 64))),
        ("a.png", png_bytes(8, 0, &values(1, 64))),
        ("b.png", png_bytes(8, 6, &values(1, 256))),
        ("a.jpg", jpeg_bytes()),
    ];
    for (name, bytes) in files {
        for place in 0..bytes.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] ^= flip;
                let folder = Folder::new();
                if let Err(error) = folder.write(name, &damaged).resolve(&[name]) {
                    let message = error.to_string();
                    assert!(message.contains("hint:"), "{name} {place} {flip:x}: {message}");
                }
            }
        }
        for length in 0..bytes.len() {
            let folder = Folder::new();
            let _ = folder.write(name, &bytes[..length]).resolve(&[name]);
        }
    }
}

#[test]
fn an_empty_folder_is_named() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("none")).unwrap();
    insta::assert_snapshot!(folder.error(&["none/*.png"]), @"`DIR/none`: the folder is empty, so glob `DIR/none/*.png` finds no image; hint: put images there, or correct the glob");
}

#[test]
fn what_is_no_image_is_refused() {
    let folder = Folder::new();
    folder.write("a.txt", b"hello");
    insta::assert_snapshot!(folder.error(&["a.txt"]), @"`DIR/a.txt`: no image format that is read; hint: give IDX of bytes, CIFAR-10 `.bin`, `.npy` of bytes, PNG or JPEG");
    folder.write("a.npy", &npy("<f4", "(1, 8, 8)", &[0; 256]));
    insta::assert_snapshot!(folder.error(&["a.npy"]), @"`DIR/a.npy`: `.npy` array of type '<f4', not bytes; hint: save a C-ordered uint8 array of shape (images, height, width) or (images, height, width, channels) with numpy.save");
    folder.write("wide.npy", &npy("|u1", "(2, 8, 16)", &values(2, 128)));
    insta::assert_snapshot!(folder.error(&["wide.npy"]), @"`DIR/wide.npy`: images of 16 x 8; hint: crop or resize them to squares of 8 to 64 pixels");
    let png = png_bytes(8, 0, &[1; 64]);
    folder.write("cut.png", &png[..png.len() - 20]);
    assert!(folder.error(&["cut.png"]).contains("PNG"));
}
