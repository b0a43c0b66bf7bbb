//! The cheapest filter there can be: a WebAssembly module whose callbacks do nothing, put together
//! by hand. What any filter pays for being called at all.

const I32: u8 = 0x7f;

/// Parameters and results of the callbacks, all of them `i32`.
const TYPES: [(usize, usize); 6] = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 1)];

/// Exported function, its parameters, and what it returns (proxy-wasm ABI 0.2.1).
const CALLBACKS: [(&str, usize, Option<u8>); 16] = [
    ("proxy_abi_version_0_2_1", 0, None),
    ("_initialize", 0, None),
    ("proxy_on_memory_allocate", 1, Some(8)),
    ("proxy_on_vm_start", 2, Some(1)),
    ("proxy_on_configure", 2, Some(1)),
    ("proxy_on_context_create", 2, None),
    ("proxy_on_request_headers", 3, Some(0)),
    ("proxy_on_request_body", 3, Some(0)),
    ("proxy_on_request_trailers", 2, Some(0)),
    ("proxy_on_response_headers", 3, Some(0)),
    ("proxy_on_response_body", 3, Some(0)),
    ("proxy_on_response_trailers", 2, Some(0)),
    ("proxy_on_tick", 1, None),
    ("proxy_on_log", 1, None),
    ("proxy_on_done", 1, Some(1)),
    ("proxy_on_delete", 1, None),
];

/// The module's bytes.
pub(crate) fn bytes() -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let types = TYPES.iter().map(|(parameters, results)| {
        let mut text = vec![0x60, *parameters as u8];
        text.extend(vec![I32; *parameters]);
        text.push(*results as u8);
        text.extend(vec![I32; *results]);
        text
    });
    section(&mut module, 1, &vector(types));
    let of_type = CALLBACKS.iter().map(|(_, parameters, result)| {
        let wanted = (*parameters, usize::from(result.is_some()));
        let index = TYPES.iter().position(|of| *of == wanted).unwrap();
        vec![index as u8]
    });
    section(&mut module, 3, &vector(of_type));
    // One memory of at least one page.
    section(&mut module, 5, &vector([vec![0, 1]]));
    let memory = export("memory", 2, 0);
    let functions = CALLBACKS.iter().enumerate();
    let functions = functions.map(|(index, (name, ..))| export(name, 0, index));
    section(
        &mut module,
        7,
        &vector([memory].into_iter().chain(functions)),
    );
    let bodies = CALLBACKS.iter().map(|(_, _, result)| match result {
        // Size, no locals, i32.const, end.
        Some(value) => vec![4, 0, 0x41, *value, 0x0b],
        None => vec![2, 0, 0x0b],
    });
    section(&mut module, 10, &vector(bodies));
    module
}

fn export(name: &str, kind: u8, index: usize) -> Vec<u8> {
    let mut text = vec![name.len() as u8];
    text.extend_from_slice(name.as_bytes());
    text.extend([kind, index as u8]);
    text
}

fn vector(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    let mut text = vec![items.len() as u8];
    text.extend(items.concat());
    text
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    // LEB128 of at most two bytes.
    let length = content.len();
    assert!(length < 1 << 14, "a section is too long");
    if length < 128 {
        module.push(length as u8);
    } else {
        module.extend([(length & 127) as u8 | 128, (length >> 7) as u8]);
    }
    module.extend_from_slice(content);
}
