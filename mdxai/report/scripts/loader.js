// Unpacks data and scripts of the page and starts it. Where that cannot be done, the page stays as it is.
(async () => {
  if (!("DecompressionStream" in window)) return;
  const unpacked = async (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const [data, text] = await Promise.all([unpacked("packed-data"), unpacked("packed-scripts")]);
  const script = document.createElement("script");
  script.textContent = text;
  document.head.append(script);
  window.mdxai.explore(JSON.parse(data));
})();
