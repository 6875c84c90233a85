// Texts as somebody may send them who means no good, by what they try.
'use strict';

const chars = (...codes) => codes.map((code) => String.fromCodePoint(code)).join('');
const each = (codes) => codes.map((code) => `a${chars(code)}b`).join(' ');
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

const PAYLOADS = {
  'CR': 'a\rBcc: evil@example.net\rb', 'LF': 'a\nBcc: evil@example.net\nb', 'CRLF and a header': 'x\r\nBcc: evil@example.net',
  'folding': 'x\r\n Bcc: evil@example.net\r\n\tTo: evil@example.net', 'CRLF at the end': 'x\r\nBcc:\r\n',
  'an empty line and a body': 'x\r\n\r\n<html><b>mine</b>', 'the end of a message': 'x\r\n.\r\nMAIL FROM:<evil@example.net>\r\n',
  'bare line feeds around a dot': 'x\n.\nMAIL FROM:<evil@example.net>\nRCPT TO:<evil@example.net>\nDATA\n',
  'a dot alone': '.', 'dots that begin lines': '.\n..\n...\n.x\r\n..x\r.y', 'mbox': 'x\nFrom evil@example.net Sat Nov 21 2026\n>From y',
  'VT and FF': each([0x0b, 0x0c]), 'other C0': each([...range(1, 8), ...range(0x0e, 0x1f)]), 'DEL and C1': each(range(0x7f, 0x9f)),
  'NEL': 'a\u0085Bcc: evil@example.net', 'U+2028 and U+2029': 'a\u2028Bcc: evil@example.net\u2029b',
  'low bytes of CR and LF': 'a\u010d\u010aBcc: x\u560d\u560ab \u0d0d\u0a0a \u{1f40d}\u{1f40a}',
  'low bytes of @ < > , ;': 'a\u0140example.com \u013c\u013e \u012c \u013b \u{1f040}',
  'encoded words, Q': '=?utf-8?Q?a=0D=0ABcc=3A=20evil=40example.net?=', 'encoded words, B': '=?UTF-8?B?PHNjcmlwdD4NCkJjYzogeA==?=',
  'half an encoded word': '=?utf-8?Q?evil', 'the other half': '?= =?=', 'half at the end': 'x =?utf-8?B?', 'nested encoded words': '=?utf-8?Q?=3D=3Futf-8=3FQ=3Fx=3F=3D?=',
  'an encoded word in its own charset': '=?utf-7?Q?+AA0ACg-Bcc:?= =?iso-2022-jp?B?GyRC?=', 'folded encoded words': '=?utf-8?Q?a?=\r\n =?utf-8?Q?b?=',
  'bidi': each([...range(0x202a, 0x202e), ...range(0x2066, 0x2069), 0x200e, 0x200f, 0x61c]), 'bidi that is never ended': '\u202emoc.elpmaxe@live',
  'zero width': each([...range(0x200b, 0x200d), ...range(0x2060, 0x2064), 0xfeff, 0xad, 0x34f, 0x180e]),
  'nothing but zero width': '\u200b\u200b', 'fillers': each([0x115f, 0x1160, 0x17b4, 0x17b5, 0x3164, 0xffa0]),
  'tags': each([0xe0001, ...range(0xe0020, 0xe0030), 0xe007f]), 'variation selectors': `${each([...range(0xfe00, 0xfe0f), 0xe0100, 0xe01ef, 0x180b])} \u2764\ufe0f`,
  'interlinear and musical': each([...range(0xfff9, 0xfffb), 0x1d173, 0x1d17a, 0x1bca0]), 'noncharacters': each([0xffff, 0xfffe, 0xfdd0, 0x10ffff, 0xfffd]),
  'combining': `Z${'\u0341\u0489'.repeat(60)}`,
  '998 bytes': 'x'.repeat(998), '2,000 bytes of two-byte characters': 'ö'.repeat(1000), 'many short lines': 'a\n'.repeat(1200),
  'boundary': `x\r\n--=_${'0'.repeat(32)}\r\nContent-Type: text/html\r\n\r\n<b>\r\n--=_${'0'.repeat(32)}--\r\n`,
  'MIME headers': 'Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="x.exe"\r\n\r\nPGI+',
  'quoted-printable': '=0D=0A=\r\n=3Cscript=3E =', 'script': '<script>alert(1)</script>', 'img': '<img src=x onerror=alert(1)>', 'style': '<style>body{display:none}</style><link rel=stylesheet href=//x>',
  'attributes': '" onmouseover="alert(1)" x="', 'attributes in single quotes': "' style='position:fixed' x='", 'no quotes': '`onload=alert(1)`',
  'entities': '&lt;b&gt; &amp;lt; &#60;b&#62; &#x3c; &NewLine; &nbsp; &notit; &', 'comment': '<!-- x --> --> <!--', 'CDATA': '<![CDATA[<b>]]> <?php x ?> <!DOCTYPE x>',
  'conditional comments': '<!--[if mso]><b><![endif]-->', 'URLs': '<a href="javascript:alert(1)">x</a> javascript:alert(1) data:text/html,<b> https://example.net/?a=1&b=2 www.example.net',
  'tags of the layout': '</td></tr></table></body></html><h1>Lead</h1>', 'unclosed': '<a href="https://example.net', 'unclosed comment': '<!-- <b', 'title': '</title><base href=//x><meta http-equiv=refresh content=0>',
  'template': '{{7*7}} ${7*7} <%= 7 %> %s%n%1$s', 'lines like ours': 'x\nE-mail     evil@example.net\n  E-mail     evil@example.net\n\nAbout this lead\n\n  Lead id    0',
  'quotes': '"evil" \\" \'', 'blanks': '   a \t  b\t ', 'surrogate pairs': '\u{1f600}\u{10000}',
};

module.exports = { PAYLOADS };
