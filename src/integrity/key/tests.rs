//! Keys and signatures against vectors of other programs.

use super::*;
use crate::ids::decode_hex;

/// A 2048-bit key and its signatures of `p2ps rsa test vector`, made with OpenSSL 3.0.
const MODULUS: &str = "94a6dff2ae10b156001d024edf7f055cd42da61cb79cca5fbad6aab4c09afe1cb5874bf686c337e3547d797e974e9353797c\
    ed90782acca14af6943a9fe69ff5313826ca39925f013d82ccf52c9b680bd967c7f93160dbd70f6dff976c21673352da452d\
    5e2bff24c28421edb649cf1c12c3ccc06ba72667de397a98988ee7f2707adcd46e2edb5e1f7b794e924ba238f6deec4662dd\
    ec9c57484193c2625c6419298608cd291337dddb8a76377ba09b7d29681570aa1c1b283ecf54295ecae3b4a624403bdaaf2d\
    4543798b00d689d147b20553da7c0b0e0ce3660a945d6a31ddd43b87005cb6219d2d7660fa0913c758e2c9c3dcffe7be7f32\
    b1d84f42b4fb";
const RSA_SHA1: &str = "7bc6bcc332543824ed140c7e0dafdf4f7e8932a76ce703b18abeb02a719f1da4c2b9eaf15584721a9bcc6edc83883278bc88\
    00763da67ca52b199a0dfc30b22819c27243cd1b797622987e3bc9517a0243d02e7eb74063176744fab838295a982e32ca1d\
    449245e52a9a71f21ec2a69daebf1c0b7f6c4631bf74e5b58cbd99d4bdb0fcab13611e3ecf87afa5e5cc2a0db81996cfdb06\
    a1fbace6938d75e13de794f3eeddc08ed54f115f2e2c20232fe1929c8c7a7b75ee6f6a91c5736d225a88d295f5b4605fe0b0\
    fb5529ab5cd3c7bbd3b5c9488a7feee5abd735cf45abc353c9d98c99120f552af1f638d89f5c975be15363ce12dd6e028bdd\
    c072fbecda5d";
const RSA_SHA256: &str = "1882f7f53256647e91e5795c925a4e4057d343e31cda48525bdfbdcac0bba98a77bcd2fbd8873f8d2e9bab431332aded4554\
    508709e4001f6ea1c198d78053cd9092306db126afb18b304ded20d93f961d56c56e8393e0e9a2dfd06d08a189e2e42a69b0\
    df4f8037b11a05ffaeb0290e1fa7f26636ce79b729061ecbe17ddab61b709c979981a3e4d2172e516095d78ce2558de37430\
    6cfbc872478f385f77550e03afacd6ce9b8b0faeae73be1b51813bb31c8e6ab11899401faf240c02a90c2b49a9ec90a6d206\
    84e600761e798f40a981aa166ee35d26d6cc0e66cb81e143ab5a2626e210380be838287fa05b6284c13efe9eb9d54516b02d\
    774c54273326";
const MESSAGE: &[u8] = b"p2ps rsa test vector";

/// Written by `openssl genpkey -algorithm ED25519`, and the public half.
const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIDNqDkKVbV3MgFZww3QpkmYUyOFB4thEm9e3z2XBtCC4\n\
    -----END PRIVATE KEY-----\n";
const ED25519_PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAbNfMFqVQ3K1QxVRqeXxJyeRFxqsynCQaXzU+NDACHnk=\n\
    -----END PUBLIC KEY-----\n";
/// Written by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
const P256_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeiYIO/tc+fVDVEiK\n\
    eTk73X+M4ujRvLac4WTywX3G4mehRANCAAR+QEn9GJQQsR753bJHgvfEfggGYRCv\n\
    ovyyj6drisSwqHrD2RKYS5WOjqebrASpdmgu9VJedUDPmdidwBe+zPlO\n\
    -----END PRIVATE KEY-----\n";

fn swarm_id(hex: &str) -> SwarmId {
    SwarmId::new(decode_hex(hex).unwrap()).unwrap()
}

fn rsa_id(algorithm: u8, exponent: &str, modulus: &str) -> SwarmId {
    swarm_id(&format!(
        "{algorithm:02x}{:02x}{exponent}{modulus}",
        exponent.len() / 2
    ))
}

#[test]
fn keys_of_every_algorithm_sign_verify_and_survive_their_file() {
    for (algorithm, id_bytes, signature_bytes) in [
        (SignatureAlgorithm::Ed25519, 33, 64),
        (SignatureAlgorithm::EcdsaP256, 65, 64),
        (SignatureAlgorithm::EcdsaP384, 97, 96),
    ] {
        let key = SigningKey::generate(algorithm).unwrap();
        let again = SigningKey::from_pem(key.to_pem()).unwrap();
        assert_eq!(key.swarm_id(), again.swarm_id());
        assert_eq!(key.swarm_id().as_bytes().len(), id_bytes);
        let verifying = key.verifying_key();
        assert_eq!(verifying.algorithm(), algorithm);
        assert_eq!(verifying.signature_bytes(), signature_bytes);
        let signature = again.sign(b"message");
        assert_eq!(signature.len(), signature_bytes);
        assert!(verifying.verify(b"message", &signature));
        assert!(!verifying.verify(b"massage", &signature));
        assert!(!verifying.verify(b"message", &signature[1..]));
        assert!(!verifying.verify(b"message", &[]));
        let other = SigningKey::generate(algorithm).unwrap().verifying_key();
        assert!(!other.verify(b"message", &signature));
    }
}

#[test]
fn only_three_algorithms_sign() {
    for algorithm in [
        SignatureAlgorithm::RsaSha1,
        SignatureAlgorithm::RsaSha256,
        SignatureAlgorithm::Ed448,
    ] {
        assert_eq!(
            SigningKey::generate(algorithm).unwrap_err(),
            KeyError::NoSigner
        );
    }
}

#[test]
fn a_seed_gives_the_key_of_the_reference() {
    // RFC 8080 §6: the example key.
    let key = SigningKey::from_seed_ed25519(*b"82260384628080122645190204142262");
    assert_eq!(
        key.swarm_id().to_string(),
        "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e"
    );
    assert_eq!(
        SigningKey::from_pem(key.to_pem()).unwrap().swarm_id(),
        key.swarm_id()
    );
    assert!(!format!("{key:?}").contains("8226"));
}

#[test]
fn key_files_of_openssl_are_read_and_written_alike() {
    let key = SigningKey::from_pem(ED25519_PEM).unwrap();
    assert_eq!(key.to_pem(), ED25519_PEM);
    let public: String = ED25519_PUBLIC_PEM.lines().skip(1).take(1).collect();
    let public = BASE64.decode(public.as_bytes()).unwrap();
    assert!(key.swarm_id().as_bytes()[1..] == public[12..]);
    let key = SigningKey::from_pem(P256_PEM).unwrap();
    assert_eq!(key.to_pem(), P256_PEM);
    // A file that went through an editor of another system.
    let crlf = format!("my key\r\n{}", P256_PEM.replace('\n', "\r\n"));
    assert_eq!(
        SigningKey::from_pem(crlf).unwrap().swarm_id(),
        key.swarm_id()
    );
}

#[test]
fn files_that_hold_no_usable_key_say_what_they_are() {
    let block = |label: &str, base64: &str| {
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
    };
    // The start of what openssl genpkey writes for these.
    let ed448 = BASE64.encode(&decode_hex("3047020100300506032b6571043b0439").unwrap());
    let p521 =
        BASE64.encode(&decode_hex("3081ee020100301006072a8648ce3d020106052b81040023").unwrap());
    let rsa = BASE64.encode(&decode_hex("308204be020100300d06092a864886f70d0101010500").unwrap());
    let cut = BASE64.encode(&decode_hex("302e020100300506032b6570042204203366").unwrap());
    for (contents, error, text) in [
        (String::new(), KeyError::Empty, "it is empty"),
        (" \n".into(), KeyError::Empty, "it is empty"),
        ("hello".into(), KeyError::NotPem, "it is not a PEM file"),
        (
            block("CERTIFICATE REQUEST", "AAAA"),
            KeyError::NotPem,
            "it is not a PEM file",
        ),
        (
            ED25519_PUBLIC_PEM.into(),
            KeyError::PublicKey,
            "it is a public key",
        ),
        (
            "ssh-ed25519 AAAAC3 me@here".into(),
            KeyError::PublicKey,
            "it is a public key",
        ),
        (
            block("CERTIFICATE", "AAAA"),
            KeyError::PublicKey,
            "it is a public key",
        ),
        (
            block("ENCRYPTED PRIVATE KEY", "AAAA"),
            KeyError::Encrypted,
            "it is encrypted, decrypt it with openssl pkcs8",
        ),
        (
            block("EC PARAMETERS", "AAAA") + &block("EC PRIVATE KEY", "AAAA"),
            KeyError::NotPkcs8,
            "it is not PKCS#8, convert it with openssl pkcs8 -topk8 -nocrypt",
        ),
        (
            block("PRIVATE KEY", &ed448),
            KeyError::NoSigner,
            "its algorithm is not Ed25519, P-256 or P-384",
        ),
        (
            block("PRIVATE KEY", &p521),
            KeyError::NoSigner,
            "its algorithm is not Ed25519, P-256 or P-384",
        ),
        (
            block("PRIVATE KEY", &rsa),
            KeyError::NoSigner,
            "its algorithm is not Ed25519, P-256 or P-384",
        ),
        (
            block("PRIVATE KEY", &cut),
            KeyError::Damaged,
            "its PEM block is damaged",
        ),
        (
            block("PRIVATE KEY", "####"),
            KeyError::Damaged,
            "its PEM block is damaged",
        ),
        (
            ED25519_PEM[..80].into(),
            KeyError::Damaged,
            "its PEM block is damaged",
        ),
    ] {
        let found = SigningKey::from_pem(&contents).unwrap_err();
        assert_eq!(found, error, "{contents}");
        assert_eq!(found.to_string(), text);
    }
    assert_eq!(
        SigningKey::from_pem([0x30, 0x80, 0xff]).unwrap_err(),
        KeyError::NotPem
    );
}

#[test]
fn rsa_signatures_of_openssl_verify() {
    for (algorithm, good, bad) in [(5, RSA_SHA1, RSA_SHA256), (8, RSA_SHA256, RSA_SHA1)] {
        let key = VerifyingKey::from_swarm_id(&rsa_id(algorithm, "010001", MODULUS)).unwrap();
        assert_eq!(key.signature_bytes(), 256);
        let signature = decode_hex(good).unwrap();
        assert!(key.verify(MESSAGE, &signature));
        assert!(!key.verify(b"another message", &signature));
        assert!(!key.verify(MESSAGE, &decode_hex(bad).unwrap()));
        assert!(!key.verify(MESSAGE, &signature[..255]));
    }
    // The exponent's length in its longer form (RFC 3110 §2).
    let long = swarm_id(&format!("08000003010001{MODULUS}"));
    let key = VerifyingKey::from_swarm_id(&long).unwrap();
    assert!(key.verify(MESSAGE, &decode_hex(RSA_SHA256).unwrap()));
}

#[test]
fn the_longest_rsa_key_is_a_swarm_identifier() {
    // 4096 bits, the longest exponent, and its length in the longer form.
    let modulus = "c1".repeat(512);
    let id = swarm_id(&format!("0800000401000001{modulus}"));
    let key = VerifyingKey::from_swarm_id(&id).unwrap();
    assert_eq!(key.signature_bytes(), 512);
    assert_eq!(id.as_bytes().len(), 520);
    let longest = SwarmId::new(vec![8; 1024]).unwrap();
    assert!(VerifyingKey::from_swarm_id(&longest).is_err());
    assert!(SwarmId::new(vec![8; 1025]).is_err());
}

#[test]
fn rsa_keys_out_of_bounds_are_refused() {
    let bounds = |modulus_bits, exponent_bytes| KeyError::RsaBounds {
        modulus_bits,
        exponent_bytes,
    };
    let tiny = "c1".repeat(127);
    let huge = "c1".repeat(513);
    let even = format!("{}fa", &MODULUS[..510]);
    for (id, error) in [
        (rsa_id(8, "010001", &tiny), bounds(1016, 3)),
        (rsa_id(8, "010001", &huge), bounds(4104, 3)),
        (rsa_id(8, "0100000001", MODULUS), bounds(2048, 5)),
        (rsa_id(8, "", MODULUS), bounds(0, 0x94a6)),
        (swarm_id("08"), bounds(0, 0)),
        (swarm_id("08ff0001"), bounds(0, 255)),
        (swarm_id("0800ffff"), bounds(0, 65535)),
        (rsa_id(8, "010001", &even), KeyError::Invalid),
        (rsa_id(8, "010000", MODULUS), KeyError::Invalid),
        (rsa_id(8, "01", MODULUS), KeyError::Invalid),
        (rsa_id(8, "000001", MODULUS), KeyError::Invalid),
        (
            rsa_id(8, "010001", &format!("00{MODULUS}")),
            KeyError::Invalid,
        ),
    ] {
        assert_eq!(VerifyingKey::from_swarm_id(&id).unwrap_err(), error, "{id}");
    }
}

#[test]
fn identifiers_that_are_no_key_are_refused() {
    let sizes = |bytes, needed| KeyError::Length { bytes, needed };
    for (id, error) in [
        ("00".to_owned(), KeyError::Algorithm { code: 0 }),
        ("10".repeat(58), KeyError::Algorithm { code: 16 }),
        ("07".repeat(33), KeyError::Algorithm { code: 7 }),
        (format!("0f{}", "11".repeat(31)), sizes(32, 33)),
        (format!("0f{}", "11".repeat(33)), sizes(34, 33)),
        (format!("0d{}", "11".repeat(65)), sizes(66, 65)),
        (format!("0d{}", "11".repeat(64)), KeyError::Invalid),
        (format!("0e{}", "11".repeat(96)), KeyError::Invalid),
        (format!("0e{}", "11".repeat(64)), sizes(65, 97)),
    ] {
        assert_eq!(
            VerifyingKey::from_swarm_id(&swarm_id(&id)).unwrap_err(),
            error,
            "{id}"
        );
    }
    assert_eq!(sizes(32, 33).to_string(), "32 bytes, need 33");
}
