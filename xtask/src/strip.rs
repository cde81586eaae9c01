//! Takes out of the object what the kernel does not read: debug sections, and the names that only they use.
//!
//! `.BTF` stays, since socket storage needs its types, and `.BTF.ext`, which puts source lines into the verifier's log.

use anyhow::{Context, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};

pub(crate) fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("bpf-linker wrote something else than an ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        // The loader finds the maps of `.BTF` by their symbols, and what `.BTF.ext` names by its section's name.
        section.delete = name.starts_with(".debug") || name.starts_with(".rel.debug") || name.starts_with(".rel.BTF");
    }
    for symbol in &mut builder.symbols {
        symbol.delete = matches!(symbol.st_type(), elf::STT_FILE | elf::STT_SECTION);
    }
    // LLVM keeps all names in one table; the writer wants the sections' in one of their own.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("the stripped object could not be written")?;
    Ok(stripped)
}
