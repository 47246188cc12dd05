"use strict";
/* How a photograph file is turned upright, as deidlib's decoding does it: by the tag Orientation of its Exif data, or,
   where there is none, of its XMP data. Browsers differ in what they honour, so the metadata is cut out of a copy before
   the browser decodes it, and the turn is made here. Pixels and colour profile are not touched. */

const latin = (bytes) => Array.from(bytes, (b) => String.fromCharCode(b)).join("");
const starts = (bytes, at, text) => [...text].every((c, i) => bytes[at + i] === c.charCodeAt(0));
const big = (bytes, at) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
const little = (bytes, at) => ((bytes[at + 3] << 24) | (bytes[at + 2] << 16) | (bytes[at + 1] << 8) | bytes[at]) >>> 0;

/** Tag 0x0112 of the first directory of Exif data (a TIFF header and what follows); null where it is not stated. */
function exifOrientation(tiff) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  if (tiff.length < 8) return null;
  const small = starts(tiff, 0, "II");
  if (!small && !starts(tiff, 0, "MM")) return null;
  const first = view.getUint32(4, small);
  if (first + 2 > tiff.length) return null;
  const n = view.getUint16(first, small);
  for (let i = 0; i < n; i++) {
    const at = first + 2 + 12 * i;
    if (at + 12 > tiff.length) return null;
    if (view.getUint16(at, small) === 0x0112) {
      const kind = view.getUint16(at + 2, small);
      return kind === 4 ? view.getUint32(at + 8, small) : kind === 3 ? view.getUint16(at + 8, small) : tiff[at + 8];
    }
  }
  return null;
}

function xmpOrientation(text) {
  const found = /tiff:Orientation(?:="|>)([0-9])/.exec(text);
  return found ? Number(found[1]) : null;
}

/** Parts of a file: [kind, start, end, content start, content end]; null where the format is none of the three. */
function partsOf(bytes) {
  if (starts(bytes, 0, "\xff\xd8\xff")) return jpegParts(bytes);
  if (starts(bytes, 0, "\x89PNG\r\n\x1a\n")) return pngParts(bytes);
  if (starts(bytes, 0, "RIFF") && starts(bytes, 8, "WEBP")) return webpParts(bytes);
  return null;
}

function jpegParts(bytes) {
  const parts = [];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff) { at += 1; continue; }
    if (marker === 0xda || marker === 0xd9) break;
    const end = at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
    if (marker === 0xe1) {
      if (starts(bytes, at + 4, "Exif\0\0")) parts.push(["exif", at, end, at + 10, end]);
      else if (starts(bytes, at + 4, "http://ns.adobe.com/xap/1.0/\0")) parts.push(["xmp", at, end, at + 33, end]);
    }
    at = end;
  }
  return parts;
}

function pngParts(bytes) {
  const parts = [];
  let at = 8;
  while (at + 12 <= bytes.length) {
    const length = big(bytes, at), kind = latin(bytes.subarray(at + 4, at + 8)), end = at + 12 + length;
    if (kind === "eXIf") parts.push(["exif", at, end, at + 8, at + 8 + length]);
    if (kind === "iTXt" && starts(bytes, at + 8, "XML:com.adobe.xmp\0")) parts.push(["xmp", at, end, at + 26, at + 8 + length]);
    at = end;
  }
  return parts;
}

function webpParts(bytes) {
  const parts = [];
  let at = 12;
  while (at + 8 <= bytes.length) {
    const kind = latin(bytes.subarray(at, at + 4)), length = little(bytes, at + 4), end = at + 8 + length + (length & 1);
    const exif = starts(bytes, at + 8, "Exif\0\0") ? 6 : 0;
    if (kind === "EXIF") parts.push(["exif", at, end, at + 8 + exif, at + 8 + length]);
    if (kind === "XMP ") parts.push(["xmp", at, end, at + 8, at + 8 + length]);
    at = end;
  }
  return parts;
}

/** Orientation 1 to 8 of a file, and a Blob of it without the metadata that would turn it. */
function withoutTurn(bytes, type) {
  const parts = partsOf(bytes);
  if (parts === null) return { orientation: 1, blob: new Blob([bytes], { type }), known: false };
  let orientation = null;
  for (const [kind, , , from, to] of parts) if (kind === "exif" && orientation === null) orientation = exifOrientation(bytes.subarray(from, to));
  for (const [kind, , , from, to] of parts) if (kind === "xmp" && orientation === null) orientation = xmpOrientation(latin(bytes.subarray(from, to)));
  const kept = [];
  let at = 0;
  for (const [, start, end] of parts) { kept.push(bytes.subarray(at, start)); at = end; }
  kept.push(bytes.subarray(at));
  if (parts.length && starts(bytes, 0, "RIFF")) {
    /* A WebP file says how long it is. */
    const head = bytes.slice(0, 12), length = kept.reduce((sum, part) => sum + part.length, 0);
    new DataView(head.buffer).setUint32(4, length - 8, true);
    kept[0] = kept[0].subarray(12);
    kept.unshift(head);
  }
  return { orientation: orientation >= 2 && orientation <= 8 ? orientation : 1, blob: new Blob(kept, { type }), known: true };
}

/** A decoded picture drawn upright on a canvas of its own. */
function upright(picture, orientation) {
  const w = picture.width, h = picture.height, canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = orientation > 4 ? [h, w] : [w, h];
  const context = canvas.getContext("2d");
  const turns = {
    1: [1, 0, 0, 1, 0, 0], 2: [-1, 0, 0, 1, w, 0], 3: [-1, 0, 0, -1, w, h], 4: [1, 0, 0, -1, 0, h],
    5: [0, 1, 1, 0, 0, 0], 6: [0, 1, -1, 0, h, 0], 7: [0, -1, -1, 0, h, w], 8: [0, -1, 1, 0, 0, w],
  };
  context.setTransform(...turns[orientation]);
  context.drawImage(picture, 0, 0);
  return canvas;
}
