/** Hands a file to the browser's downloads. */

/** `title` is the name of the clip; the file is named after it. */
export function save(blob, title, file) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = `${stem(title)}_${file}`;
  link.click();
  // the browser has taken it over by then
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function stem(title) {
  return (
    title
      .replace(/\.[^.]{1,5}$/, "")
      .replace(/[^\p{L}\p{N}_-]+/gu, "_")
      .slice(0, 60) || "sam2rt"
  );
}
