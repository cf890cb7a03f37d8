// The configuration file as text: comments stay, and what is wrong is shown at its line.
import { ask, json } from './api.js';
import { health } from './shell.js';
import { h, say, toast } from './dom.js';

const main = document.querySelector('main');
const numbers = h('pre', { 'aria-hidden': 'true' });
const area = h('textarea', { spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', 'aria-label': 'Configuration file', disabled: true });
const faults = h('ul', { class: 'faults' });
const note = h('p', { class: 'counts' });
const save = h('button', { type: 'button', disabled: true, onclick: () => store() }, 'Save');
const undo = h('button', { type: 'button', class: 'quiet', disabled: true, onclick: () => { area.value = saved; accepted = ''; showFaults([]); } }, 'Undo changes');
main.append(h('div', { class: 'bar' }, h('h1', {}, 'Configuration'), note, h('div', { class: 'tools' }, undo, save)), h('div', { role: 'alert', class: 'told' }, faults), h('div', { class: 'editor' }, numbers, area));

let saved = '', wrong = [], waiting = 0;

function changed(problems = wrong) {
  wrong = problems;
  const lines = area.value.split('\n').length;
  const bad = new Map(wrong.map(({ line, severity }) => [line, severity]));
  for (const { line, severity } of wrong) if (severity === 'error') bad.set(line, severity);
  const parts = [];
  for (let line = 1; line <= lines; line += 1) parts.push(bad.has(line) ? h('b', { 'data-severity': bad.get(line) }, String(line)) : `${line}\n`);
  numbers.replaceChildren(...parts);
  numbers.scrollTop = area.scrollTop;
  const differs = area.value !== saved;
  save.disabled = undo.disabled = !differs;
  say(note, differs ? 'Not saved' : '');
  if (!accepted) say(save, 'Save');
}

function go({ line, column }) {
  const lines = area.value.split('\n');
  const at = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + Math.max(0, column - 1);
  area.focus();
  area.setSelectionRange(at, Math.max(at, at + (lines[line - 1]?.length ?? 0) - column + 1));
  area.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(area).lineHeight));
}

/** Goes to the line of a stream. */
function find(stream) {
  const lines = saved.split('\n');
  const start = lines.findIndex((line) => /^streams:/.test(line));
  const names = [stream, JSON.stringify(stream), `'${stream.replaceAll("'", "''")}'`];
  const at = lines.findIndex((line, row) => row > start && start >= 0 && names.some((one) => line.trimStart().startsWith(`${one}:`)));
  if (at >= 0) go({ line: at + 1, column: lines[at].search(/\S/) + 1 });
  else toast(`${stream} is not in this file.`, true);
}

/** Lines of `file:line:column: error: text`. */
function parse(text) {
  return text.split('\n').filter(Boolean).map((line) => {
    const [, row, column, severity, message] = /^.*?:(\d+):(\d+): (?:(error|warning): )?(.*)$/.exec(line) ?? [null, 0, 0, 'error', line];
    return { line: Number(row), column: Number(column), severity: severity ?? 'error', message };
  });
}

function showFaults(problems) {
  const say = ({ line, message, hint }) => `${line ? `Line ${line}: ` : ''}${message}${hint ? ` (${hint})` : ''}`;
  faults.replaceChildren(...problems.map((problem) => h('li', { 'data-severity': problem.severity }, h('button', { type: 'button', onclick: () => problem.line && go(problem) }, say(problem)))));
  changed(problems);
}

/** What the server and the plugins' schemas say of the text; nothing is written. */
async function examine() {
  const text = area.value;
  try {
    const problems = await json('api/config', { query: { check: '' }, method: 'POST', body: text });
    if (text !== area.value) return null;
    showFaults(problems);
    return problems;
  } catch (error) {
    if (text === area.value) showFaults(parse(error.message));
    return null;
  }
}

let accepted = ''; // the warnings that were seen and are meant
async function store() {
  save.disabled = true;
  clearTimeout(waiting);
  const text = area.value;
  const problems = await examine();
  if (!problems) { changed(); return; }
  const errors = problems.filter(({ severity }) => severity === 'error');
  const told = JSON.stringify(problems);
  if (errors.length || (problems.length && accepted !== told)) {
    go(errors[0] ?? problems[0]);
    if (!errors.length) { accepted = told; changed(); say(save, 'Save all the same'); }
    return;
  }
  try {
    await ask('api/config', { method: 'POST', body: text });
    saved = text;
    accepted = '';
    changed();
    toast('Saved, and in force.');
    health();
  } catch (error) {
    showFaults(parse(error.message));
    if (wrong[0]?.line) go(wrong[0]);
  }
}

area.addEventListener('input', () => {
  // The marks are those of the text before: they go when it has been looked at.
  accepted = '';
  changed();
  clearTimeout(waiting);
  waiting = setTimeout(examine, 600);
});
area.addEventListener('scroll', () => { numbers.scrollTop = area.scrollTop; });
area.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 's') {
    event.preventDefault();
    if (!save.disabled) store();
  }
});
addEventListener('beforeunload', (event) => { if (area.value !== saved) event.preventDefault(); });

try {
  saved = await (await ask('api/config')).text();
  area.value = saved;
  area.disabled = false;
  changed([]);
  const wanted = new URLSearchParams(location.search).get('stream');
  if (wanted !== null) find(wanted);
  examine();
} catch (error) {
  showFaults([{ line: 0, severity: 'error', message: error.status === 410 ? 'Patchbay runs without a configuration file.' : error.message || 'The file cannot be read.' }]);
}
