// Fields from a JSON Schema: a label, an input by the type, a help text, and a place for what is wrong.
import { h, say } from './dom.js';

const PARTS = ['address', 'username', 'password'];

/** The names of a schema's properties: the parts of an address first, then the required ones, then the rest. */
function names(schema) {
  // What manifests of others say may be anything.
  const all = Object.entries(schema.properties ?? {}).filter(([, property]) => property && typeof property === 'object').map(([name]) => name);
  const rank = (name) => (PARTS.includes(name) ? PARTS.indexOf(name) : [schema.required].flat().includes(name) ? 3 : 4);
  return all.sort((a, b) => rank(a) - rank(b));
}

export const isOption = (name, property) => property['x-in'] === 'option' || !PARTS.includes(name);

function input(name, property, id) {
  const base = { id, name, 'aria-describedby': `${id}-help ${id}-fault` };
  if (Array.isArray(property.enum)) {
    const first = property.default === undefined ? 'Not set' : `${property.default} (as usual)`;
    const others = property.enum.filter((one) => one !== property.default);
    return h('select', base, h('option', { value: '' }, first), ...others.map((one) => h('option', { value: String(one) }, String(one))));
  }
  if (property.type === 'boolean') return h('input', { ...base, type: 'checkbox', role: 'switch' });
  const text = { ...base, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' };
  const example = property.default ?? property.examples?.[0];
  if (example !== undefined) text.placeholder = String(example);
  if (property.type === 'integer' || property.type === 'number') {
    return h('input', { ...text, type: 'number', inputmode: 'decimal', min: property.minimum, max: property.maximum, step: property.type === 'integer' ? 1 : 'any' });
  }
  if (property.writeOnly) return h('input', { ...text, type: 'password', autocomplete: 'new-password' });
  return h('input', text);
}

function fits(pattern, text) {
  try { return new RegExp(pattern, 'u').test(text); } catch { return true; }
}

/** One labelled field; `fault(text)` says what is wrong with it, `value()` what stands in it (empty: nothing). */
export function field(name, property, required = false, id = `field-${name}`) {
  const control = input(name, property, id);
  const help = h('small', { id: `${id}-help` }, property.description ?? '');
  const wrong = h('small', { id: `${id}-fault`, class: 'fault', role: 'alert' });
  const label = property.title ?? name;
  const optional = !required && control.type !== 'checkbox' && !property.enum;
  const text = [label, optional && h('span', { class: 'dim' }, ' optional')];
  const element = control.type === 'checkbox'
    ? h('div', { class: 'field' }, h('label', { class: 'switch', for: id }, control, ...text), help, wrong)
    : h('div', { class: 'field' }, h('label', { for: id }, ...text), control, help, wrong);
  if (!property.description) help.hidden = true;
  const fault = (reason) => {
    say(wrong, reason);
    if (reason) control.setAttribute('aria-invalid', 'true'); else control.removeAttribute('aria-invalid');
  };
  control.addEventListener('input', () => fault(''));
  const value = () => (control.type === 'checkbox' ? (control.checked ? '1' : '') : control.value.trim());
  /** What is wrong by the schema alone; empty: nothing. */
  const check = () => {
    const is = value();
    if (!is) return required && !control.validity.badInput ? `${label} is missing.` : control.validity.badInput ? 'This must be a number.' : '';
    const number = Number(is);
    if (property.minimum !== undefined && number < property.minimum) return `At least ${property.minimum}.`;
    if (property.maximum !== undefined && number > property.maximum) return `At most ${property.maximum}.`;
    if (property.type === 'integer' && control.type === 'number' && !Number.isInteger(number)) return 'A whole number.';
    if (property.pattern && !fits(property.pattern, is)) return property.examples ? `This is not of the form ${property.examples[0]}` : 'This does not have the right form.';
    if (!property.writeOnly && /\s/.test(is)) return 'There must be no blanks in it.';
    return '';
  };
  return { name, property, element, control, value, check, fault };
}

/** All fields of a schema. */
export function fields(schema) {
  const required = Array.isArray(schema.required) ? schema.required : [];
  return names(schema).map((name) => field(name, schema.properties[name], required.includes(name)));
}

/** The source URL that the fields of a source's schema say, as it is written into the configuration. */
export function sourceUrl(scheme, schema, all) {
  const value = (name) => all.find((one) => one.name === name && !isOption(name, one.property))?.value() ?? '';
  const address = value('address');
  let url;
  if (schema['x-url']) url = schema['x-url'].replaceAll('{scheme}', scheme).replaceAll('{address}', () => address);
  else {
    const rest = address.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '');
    const user = value('username');
    const login = user && !/^[^/]*@/.test(rest) ? `${encodeURIComponent(user)}:${encodeURIComponent(value('password'))}@` : '';
    url = `${scheme}://${login}${rest}`;
  }
  for (const one of all) if (isOption(one.name, one.property) && one.value()) url += `#${one.name}=${one.value()}`;
  return url;
}
