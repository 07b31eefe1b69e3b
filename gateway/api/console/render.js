// Turns descriptions of elements into the document, changing only what differs: focus, selection and scroll stay.
// Never takes markup: a string is text, whatever is in it.

const SVG = "http://www.w3.org/2000/svg";
const seen = new WeakMap(); // node -> its last description

/** Describe an element. Children may be descriptions, strings, numbers, nested lists, or null for nothing. */
export function h(tag, attributes, ...children) {
  return { tag, attributes: attributes ?? {}, children: flat(children) };
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (typeof child === "object" ? child : String(child)));
}

/** Make the children of `parent` be these. A child with a `key` keeps its element wherever it moves. */
export function patch(parent, ...children) {
  const keyed = new Map();
  for (const node of parent.childNodes) {
    const key = seen.get(node)?.attributes.key;
    if (key !== undefined) keyed.set(key, node);
  }
  let next = parent.firstChild;
  for (const child of flat(children)) {
    const node = reuse(child, next, keyed) ?? create(child, parent);
    if (node === next) next = next.nextSibling;
    else place(parent, node, next);
    if (typeof child === "string") {
      if (node.data !== child) node.data = child;
    } else {
      update(node, child);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function reuse(child, next, keyed) {
  if (typeof child === "string") return next?.nodeType === Node.TEXT_NODE ? next : null;
  const { key } = child.attributes;
  const candidate = key === undefined ? next : keyed.get(key);
  if (!candidate) return null;
  const before = seen.get(candidate);
  return before && before.tag === child.tag && before.attributes.key === key ? candidate : null;
}

function create(child, parent) {
  if (typeof child === "string") return document.createTextNode(child);
  const namespace = child.tag === "svg" ? SVG : parent.namespaceURI;
  return document.createElementNS(namespace, child.tag);
}

function place(parent, node, next) {
  if (node.isConnected && parent.moveBefore)
    parent.moveBefore(node, next); // keeps focus
  else parent.insertBefore(node, next);
}

function update(node, child) {
  const before = seen.get(node)?.attributes ?? {};
  const { attributes } = child;
  const isNew = !seen.has(node);
  seen.set(node, child);
  for (const name of Object.keys(before)) if (!(name in attributes)) assign(node, name, null, before[name]);
  for (const [name, value] of Object.entries(attributes)) assign(node, name, value, before[name]);
  patch(node, child.children);
  if (attributes.value !== undefined && node.value !== String(attributes.value)) node.value = attributes.value;
  if (isNew) attributes.made?.(node);
}

function assign(node, name, value, before) {
  if (name === "key" || name === "made" || name === "value") return;
  if (name === "style") {
    for (const property of Object.keys(before ?? {}))
      if (!(property in (value ?? {}))) node.style.removeProperty(property);
    for (const [property, text] of Object.entries(value ?? {})) node.style.setProperty(property, text);
  } else if (name.startsWith("on")) {
    node[name] = value;
  } else if (name === "checked" || name === "disabled") {
    node[name] = Boolean(value);
  } else if (value === before) {
    return; // what a person opened or closed stays so
  } else if (value === null || value === undefined || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}
