//! What the linkers of old distributions know: binutils 2.26 of Ubuntu 16.04, 2.27 of CentOS 7.
use std::fs;
use std::process::Command;

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};

use crate::{Sdk, succeeded};

/// Types of sections that binutils 2.26 links.
const SECTIONS: [elf::SectionType; 9] = [
    elf::SHT_NULL,
    elf::SHT_PROGBITS,
    elf::SHT_NOBITS,
    elf::SHT_RELA,
    elf::SHT_INIT_ARRAY,
    elf::SHT_SYMTAB,
    elf::SHT_STRTAB,
    elf::SHT_FINI_ARRAY,
    elf::SHT_X86_64_UNWIND,
];

/// Flags of sections that it knows. Without those of compression, groups and what must be kept.
const FLAGS: u64 = elf::SHF_WRITE.0
    | elf::SHF_ALLOC.0
    | elf::SHF_EXECINSTR.0
    | elf::SHF_MERGE.0
    | elf::SHF_STRINGS.0
    | elf::SHF_INFO_LINK.0
    | elf::SHF_TLS.0;

#[test]
fn the_library_has_nothing_that_old_linkers_do_not_know() {
    let Some(sdk) = Sdk::unpacked("the_library_has_nothing_that_old_linkers_do_not_know") else {
        return;
    };
    let library = sdk.directory().join("lib/libmesos_overlay.a");
    let mut ar = Command::new("ar");
    ar.arg("x").arg(&library).current_dir(sdk.scratch.path());
    succeeded(&ar.output().unwrap());
    let data = fs::read(sdk.scratch.path().join("mesos_overlay.o")).unwrap();
    let data = data.as_slice();
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    // Without an extension of GNU, such as sections to be kept.
    assert_eq!(header.e_ident.os_abi, elf::ELFOSABI_NONE);
    let sections = header.sections(endian, data).unwrap();
    let mut relocations = 0;
    for section in sections.iter() {
        let name = String::from_utf8_lossy(sections.section_name(endian, section).unwrap());
        let kind = section.sh_type(endian);
        assert!(SECTIONS.contains(&kind), "{name} has type {kind:?}");
        let flags = section.sh_flags(endian).0;
        assert_eq!(flags & !FLAGS, 0, "flags {flags:#x} of {name}");
        for part in [
            ".debug",
            ".note.gnu.property",
            ".llvm",
            ".rustc",
            ".comment",
        ] {
            assert!(!name.contains(part), "{name} is of no use to a linker");
        }
        let Some((table, _)) = section.rela(endian, data).unwrap() else {
            continue;
        };
        for relocation in table {
            let kind = relocation.r_type(endian, false);
            relocations += 1;
            // The last type before R_X86_64_GOTPCRELX (41), which came with 2.26.
            assert!(kind.0 < 41, "a relocation of type {kind:?} in {name}");
        }
    }
    assert!(relocations > 10_000, "{relocations}");
}
