//! Zip archives made by hand.

/// A zip archive as torch.save lays it out, with these records.
pub fn archive(records: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in records {
        let crc = crc32fast::hash(data);
        let mut fields = Vec::new();
        fields.extend([0u16, 0, method, 0, 0].iter().flat_map(|x| x.to_le_bytes()));
        fields.extend(
            [crc, data.len() as u32, data.len() as u32]
                .iter()
                .flat_map(|x| x.to_le_bytes()),
        );
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        let start = file.len() as u32;
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(
        [records.len() as u16; 2]
            .iter()
            .flat_map(|x| x.to_le_bytes()),
    );
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend(0u16.to_le_bytes());
    file
}
