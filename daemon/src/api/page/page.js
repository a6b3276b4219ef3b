'use strict';
(() => {
  const WORDS = {
    zh: {
      title: 'Astromech · 图文检索', headline: '用一句话，或一张图，找到图片与文章', lead: '输入中文描述；也可以把图片拖到页面任意处、粘贴，或点相机选择。',
      placeholder: '描述你要找的画面，例如：红色的汽车', search: '搜索', choose: '用图片搜索', forget: '移除图片', skip: '跳到结果', pictures: '图片', articles: '文章',
      ads: '广告', videos: '视频', at: (time) => `最相近的画面在 ${time}`, more: '显示更多', retry: '重试', drop: '松开，用这张图片搜索', metrics: '指标', searching: '正在搜索…', nothing: '没有找到结果。换个说法试试。', idle: '此模型的精排不改变顺序',
      offline: '连不上服务', unreadable: '这个文件不是可以读取的图片', similar: '找相似的图片', untitled: '无标题', other: 'English',
      key: '此服务需要 API 密钥', unlock: '使用',
      rerank: '用单塔模型精排', ranks: (now, was) => `精排第 ${now} 位，双塔第 ${was} 位`, unscored: '未能精排',
      exampleAds: '示例：为文章选广告图', exampleIllustrations: '示例：为段落选配图', contextAds: '为这篇文章选广告图', contextIllustrations: '为这段文字选配图', noArticle: '没有文章可作示例',
      counts: (c) => [c.image && `${c.image} 张图片`, c.article && `${c.article} 篇文章`, c.ad && `${c.ad} 个广告`, c.video && `${c.video} 个视频`].filter(Boolean).join(' · '),
      timing: (e, s, r) => [`编码 ${e} ms`, `检索 ${s} ms`, r && `精排 ${r} ms`].filter(Boolean).join(' · '), facts: (i) => [`模型 ${i.bundle}`, `${i.dim} 维`, `${i.precision} · ${i.provider}`],
    },
    en: {
      title: 'Astromech · search by words or picture', headline: 'Find pictures and articles with a sentence, or a picture',
      lead: 'Describe it in Chinese. Or drop a picture anywhere on this page, paste one, or choose one with the camera.',
      placeholder: 'Describe a picture in Chinese, e.g. 红色的汽车', search: 'Search', choose: 'Search by picture', forget: 'Remove the picture', skip: 'Skip to results',
      pictures: 'Pictures', articles: 'Articles', ads: 'Advertisements', videos: 'Videos', at: (time) => `Nearest frame at ${time}`, more: 'Show more', retry: 'Try again', drop: 'Drop to search by this picture', metrics: 'Metrics',
      searching: 'Searching…', nothing: 'Nothing found. Try other words.', idle: 'this model\'s re-ranking keeps the order', offline: 'The daemon does not answer', unreadable: 'This file is no picture that can be read',
      similar: 'Find similar pictures', untitled: 'Untitled', other: '中文',
      key: 'This daemon asks for an API key', unlock: 'Use it',
      rerank: 'Re-rank by the single tower', ranks: (now, was) => `Rank ${now} by the single tower, ${was} by the dual towers`, unscored: 'Not re-ranked',
      exampleAds: 'Example: ads for an article', exampleIllustrations: 'Example: illustrations for a paragraph',
      contextAds: 'Ad pictures for this article', contextIllustrations: 'Illustrations for this paragraph', noArticle: 'The index has no article for the example',
      counts: (c) => [c.image && `${c.image} pictures`, c.article && `${c.article} articles`, c.ad && `${c.ad} advertisements`, c.video && `${c.video} videos`].filter(Boolean).join(' · '),
      timing: (e, s, r) => [`embed ${e} ms`, `search ${s} ms`, r && `re-rank ${r} ms`].filter(Boolean).join(' · '), facts: (i) => [`model ${i.bundle}`, `${i.dim} dimensions`, `${i.precision} · ${i.provider}`],
    },
  };
  // Context of each example, and what it recalls; bids stand for those of an auction.
  const MATCHES = {
    ads: { text: '新款电动汽车上市', kinds: ['article', 'ad', 'image'], bids: [1, 2, 3] },
    illustrations: { text: '周末和朋友一起去打保龄球，最后吃了一块生日蛋糕。', kinds: ['image'] },
  };
  const FIRST = 18, MOST = 100, ARTICLES_FIRST = 6, RESCORE_FIRST = 50;
  const SERVED = ['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/bmp'];
  const SHRINK_BYTES = 4 * 1024 * 1024, SHRINK_EDGE = 1280, SKELETON_MS = 150;

  const $ = (id) => document.getElementById(id);
  const make = (tag, set = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), set);
    node.append(...children.filter(Boolean));
    return node;
  };
  const stored = (key, value) => {
    try { return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value); } catch { return null; }
  };

  let language = stored('language') || (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');
  let info = null, answer = null, limit = FIRST, running = null, last = null, preview = null;
  const words = () => WORDS[language];

  // A key is kept as long as this tab is open, and sent to this daemon only.
  let key = null;
  try { key = sessionStorage.getItem('key'); } catch { /* asked for again */ }
  async function call(path, set = {}) {
    const response = await fetch(path, key ? { ...set, headers: { ...set.headers, 'x-api-key': key } } : set);
    if (response.status === 401) $('key').hidden = false;
    return response;
  }

  // A picture that needs the key can't be had by its address alone.
  async function load(image, url) {
    if (!key || !url.startsWith('/v1/')) { image.src = url; return; }
    try {
      const response = await call(url);
      if (!response.ok) throw new Error(response.statusText);
      const own = URL.createObjectURL(await response.blob());
      image.addEventListener('load', () => URL.revokeObjectURL(own), { once: true });
      image.src = own;
    } catch {
      image.dispatchEvent(new Event('error'));
    }
  }

  function translate() {
    const t = words();
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
    document.title = t.title;
    document.querySelectorAll('[data-t]').forEach((node) => { node.textContent = t[node.dataset.t]; });
    document.querySelectorAll('[data-label]').forEach((node) => { node.setAttribute('aria-label', t[node.dataset.label]); node.title = t[node.dataset.label]; });
    document.querySelectorAll('[data-placeholder]').forEach((node) => { node.placeholder = t[node.dataset.placeholder]; });
    $('language').textContent = t.other;
    $('language').lang = language === 'zh' ? 'en' : 'zh-CN';
    facts();
    chips();
    if (answer) show(answer);
  }

  function facts() {
    if (!info) return;
    const t = words();
    const parts = [...t.facts(info), t.counts(info.points)].filter(Boolean);
    $('facts').replaceChildren(`${parts.join(' · ')} · `, make('code', { textContent: info.fingerprint.slice(0, 12), title: info.fingerprint }));
  }

  function chips() {
    const query = new URLSearchParams(location.search).get('q');
    $('chips').replaceChildren(...(info ? info.examples : []).map((text) => {
      const button = make('button', { type: 'button', textContent: text, lang: 'zh-CN', onclick: () => ask({ text }) });
      button.setAttribute('aria-pressed', String(text === query));
      return make('li', {}, button);
    }));
    const able = info && info.examples.length && info.rescore_candidates_max, shown = new URLSearchParams(location.search).get('match');
    $('matches').replaceChildren(...(able ? Object.keys(MATCHES) : []).map((mode) => {
      const button = make('button', { type: 'button', id: `match-${mode}`, textContent: words()[named('example', mode)], onclick: () => ask({ match: mode }) });
      button.setAttribute('aria-pressed', String(mode === shown));
      return make('li', {}, button);
    }));
  }

  const named = (word, mode) => word + mode[0].toUpperCase() + mode.slice(1);

  // Searching -----------------------------------------------------------------------------------------------------------------

  async function ask(query, { push = true, size = FIRST } = {}) {
    if (running) running.abort();
    const mine = running = new AbortController();
    limit = size;
    last = query;
    document.body.classList.add('searched', 'stale');
    $('alert').hidden = true;
    $('query').value = query.text || '';
    picture(query.show || null);
    if (push) history.pushState(null, '', address(query));
    chips();
    const skeleton = setTimeout(() => { $('status').textContent = words().searching; if (!answer) waiting(); }, SKELETON_MS);
    try {
      const json = query.match ? await matched(query.match, mine.signal) : await searched(query, mine.signal);
      answer = json;
      show(json);
      if (push) window.scrollTo({ top: 0 });
    } catch (error) {
      if (mine.signal.aborted) return;
      fail(error.title || words().offline, error.message);
    } finally {
      clearTimeout(skeleton);
      if (running === mine) {
        running = null;
        document.body.classList.remove('stale');
      }
    }
  }

  function address({ text, like, match }) {
    const [name, value] = text ? ['q', text] : like ? ['like', like] : ['match', match];
    return value ? `/?${name}=${encodeURIComponent(value)}` : '/';
  }

  async function post(path, body, signal) {
    const response = await call(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal });
    const json = await response.json();
    if (!response.ok) throw Object.assign(new Error(json.detail), { title: json.title });
    return json;
  }

  async function searched(query, signal) {
    const body = query.text ? { text: query.text } : { image: query.image || await fetched(query, signal) };
    return post('/v1/search', { ...body, ...second(), limit }, signal);
  }

  // The dual towers recall, the single tower ranks: for an article as advertisements, for a paragraph as illustrations.
  async function matched(mode, signal) {
    const { text, kinds, bids } = MATCHES[mode];
    const found = await post('/v1/search', { text, kinds, limit: FIRST }, signal);
    const article = (found.hits.article || [])[0];
    if (mode === 'ads' && !article) throw Object.assign(new Error(''), { title: words().noArticle });
    const recalled = [...(found.hits.ad || []), ...(found.hits.image || [])];
    const candidates = recalled.map(({ kind, id }, place) => ({ item: { kind, id }, ...(bids && { bid: bids[place % bids.length] }) }));
    const context = mode === 'ads' ? { item: { kind: article.kind, id: article.id } } : { text };
    const said = await post('/v1/rescore', { context, candidates, mode }, signal);
    const hit = ({ index, scores, kind, detail }) => {
      const { bid } = candidates[index];
      return { ...recalled[index], bid, rescore: { dual_rank: index + 1, scores, problem: scores ? undefined : { kind, detail } } };
    };
    const results = said.results.map(({ index, itm, itc, itm_text, itm_image, score }) => hit({ index, scores: { itm, itc, itm_text, itm_image, score } }));
    const match = { mode, title: article && article.title, text: article ? article.body : text };
    return { match, hits: { image: [...results, ...said.problems.map(hit)] }, embed_ms: found.embed_ms, search_ms: found.search_ms, rescore_ms: said.timings.total_ms, blend: said.blend };
  }

  // How many of the best hits the single tower ranks anew.
  function second() {
    return $('rescore').checked ? { rescore: Math.min(MOST, Math.max(RESCORE_FIRST, limit)) } : {};
  }

  async function fetched(query, signal) {
    const response = await call(query.show, { signal });
    if (!response.ok) throw new Error((await response.json()).detail);
    return base64(await response.blob());
  }

  function askLike(like, options) {
    const [, kind, id, frame] = like.match(/^([a-z]+)\/(.+?)(\?frame=\d+)?$/s) || [];
    if (kind) ask({ like, show: `/v1/media/${kind}/${encodeURIComponent(id)}${frame || ''}` }, options);
  }

  async function askFile(file) {
    if (!file) return;
    try {
      const blob = SERVED.includes(file.type) && file.size <= SHRINK_BYTES ? file : await shrunk(file);
      const show = URL.createObjectURL(blob);
      await ask({ image: await base64(blob), show });
    } catch {
      fail(words().unreadable, file.name);
    }
  }

  // What the daemon does not read, or what is large, is sent as a smaller JPEG: the model sees a small square anyhow.
  async function shrunk(file) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SHRINK_EDGE / Math.max(bitmap.width, bitmap.height));
    const canvas = make('canvas', { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
    const context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error('empty'))), 'image/jpeg', 0.92));
  }

  function base64(blob) {
    return new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
      reader.onerror = () => failed(reader.error);
      reader.readAsDataURL(blob);
    });
  }

  // Showing -------------------------------------------------------------------------------------------------------------------

  function picture(url) {
    if (preview && preview !== url && preview.startsWith('blob:')) URL.revokeObjectURL(preview);
    preview = url;
    $('chosen').hidden = !url;
    if (url) load($('chosen-picture'), url); else $('chosen-picture').removeAttribute('src');
  }

  function waiting() {
    const tile = () => make('figure', { className: 'tile' }, make('button', { type: 'button', disabled: true, tabIndex: -1 }));
    $('image').replaceChildren(...Array.from({ length: 12 }, tile));
    $('section-image').hidden = false;
    $('results').className = 'wait';
  }

  function show(json) {
    const t = words(), hits = { image: [], video: [], ad: [], article: [], ...json.hits };
    const count = { image: hits.image.length, video: hits.video.length, ad: hits.ad.length, article: hits.article.length };
    const found = count.image + count.video + count.ad + count.article;
    $('results').className = '';
    context(json.match);
    // Fitting found no weight for the bundle's single tower that ranks better than none.
    const idle = json.blend && !json.blend.text && !json.blend.image ? ` · ${t.idle}` : '';
    const timing = t.timing(json.embed_ms.toFixed(1), json.search_ms.toFixed(1), json.rescore_ms && json.rescore_ms.toFixed(1));
    $('status').textContent = found ? `${t.counts(count)} — ${timing}${idle}` : t.nothing;
    $('image').replaceChildren(...hits.image.map(tile));
    $('video').replaceChildren(...hits.video.map(tile));
    $('ad').replaceChildren(...hits.ad.map(tile));
    $('article').replaceChildren(...hits.article.slice(0, Math.round(ARTICLES_FIRST * limit / FIRST)).map(row));
    for (const kind of ['image', 'video', 'ad', 'article']) $(`section-${kind}`).hidden = !count[kind];
    $('more').hidden = Boolean(json.match) || limit >= MOST || Math.max(...Object.values(count)) < limit;
  }

  // What an example's pictures were chosen for.
  function context(match) {
    $('context').hidden = !match;
    if (!match) return;
    const label = make('h2', { textContent: words()[named('context', match.mode)] });
    $('context').dataset.mode = match.mode;
    $('context').replaceChildren(...[label, match.title && make('h3', { textContent: match.title, lang: 'zh-CN' }), make('p', { textContent: match.text || '', lang: 'zh-CN' })].filter(Boolean));
  }

  function img(hit, tile) {
    const image = make('img', { alt: hit.title || hit.id, loading: 'lazy', decoding: 'async' });
    image.onload = () => tile.classList.add('shown');
    image.onerror = () => image.replaceWith(make('span', { className: 'none', textContent: hit.title || hit.id }));
    load(image, hit.image_url);
    return image;
  }

  function score(hit) {
    const scores = hit.rescore && hit.rescore.scores;
    if (!scores) return make('span', { className: 'score', textContent: hit.score.toFixed(3) });
    const parts = `itm ${scores.itm.toFixed(3)} + itc ${scores.itc.toFixed(3)}`;
    return make('span', { className: 'score', textContent: scores.score.toFixed(3), title: parts });
  }

  // Both ranks, side by side: the single tower's, and the dual towers'.
  function ranks(hit, index) {
    if (!hit.rescore) return null;
    const now = index + 1, was = hit.rescore.dual_rank, scored = Boolean(hit.rescore.scores);
    const node = make('span', { className: scored && now < was ? 'ranks up' : 'ranks' }, `${scored ? now : '–'} `, make('s', { textContent: `← ${was}` }));
    node.title = scored ? words().ranks(now, was) : `${words().unscored}: ${hit.rescore.problem ? hit.rescore.problem.detail : ''}`;
    node.dataset.rank = now;
    node.dataset.dual = was;
    return node;
  }

  function about(hit) {
    return [hit.title, ...Object.entries(hit.attributes || {}).map(([key, value]) => `${key}: ${value}`), hit.link].filter(Boolean).join('\n');
  }

  // 75000 ms as 1:15, from an hour on as 1:01:15.
  function clock(ms) {
    const seconds = Math.floor(ms / 1000), two = (number) => String(number).padStart(2, '0');
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
  }

  function tile(hit, index) {
    const figure = make('figure', { className: 'tile' });
    // A caption's first words name the picture; the rest is in the tooltip.
    const first = (hit.title || hit.id).split(/[：:。\n]/)[0], title = hit.bid ? `¥${hit.bid} · ${first}` : first;
    const inside = hit.image_url ? img(hit, figure) : make('span', { className: 'none', textContent: title });
    const button = make('button', { type: 'button', title: `${about(hit)}\n${words().similar}` }, inside);
    button.onclick = () => askLike(`${hit.kind}/${hit.id}${hit.frame ? `?frame=${hit.frame.number}` : ''}`);
    button.disabled = !hit.image_url;
    if (hit.frame) {
      const time = clock(hit.frame.time_ms);
      button.append(make('span', { className: 'time', textContent: time, title: words().at(time) }));
    }
    const named = hit.link ? make('a', { href: hit.link, rel: 'noopener noreferrer', target: '_blank', textContent: title }) : title;
    const caption = make('figcaption', { lang: 'zh-CN', title: about(hit) }, make('span', { className: 'name' }, named), ranks(hit, index), score(hit));
    figure.append(button, caption);
    return figure;
  }

  function row(hit, index) {
    const title = hit.title || words().untitled;
    const line = make('li', {});
    const heading = make('h3', {}, hit.link ? make('a', { href: hit.link, rel: 'noopener noreferrer', target: '_blank', textContent: title }) : title);
    const body = hit.body ? make('p', { textContent: hit.body }) : null;
    const text = make('div', { className: 'words', lang: 'zh-CN' }, heading, body);
    line.append(...[hit.image_url && img(hit, line), text, ranks(hit, index), score(hit)].filter(Boolean));
    return line;
  }

  function fail(title, detail) {
    $('alert-title').textContent = title;
    $('alert-detail').textContent = detail || '';
    $('alert').hidden = false;
    $('retry').hidden = !last;
    $('status').textContent = '';
    if ($('results').className === 'wait') clear();
  }

  function clear() {
    answer = null;
    for (const kind of ['image', 'video', 'ad', 'article']) { $(kind).replaceChildren(); $(`section-${kind}`).hidden = true; }
    $('results').className = '';
    context(null);
    $('status').textContent = '';
    $('more').hidden = true;
  }

  function home(push) {
    if (running) running.abort();
    last = null;
    clear();
    picture(null);
    $('alert').hidden = true;
    $('query').value = '';
    document.body.classList.remove('searched', 'stale');
    if (push) history.pushState(null, '', '/');
    chips();
    $('query').focus();
  }

  // What the address says is what is shown, so that a search can be shared and the back button works.
  function follow() {
    const parameters = new URLSearchParams(location.search);
    const text = (parameters.get('q') || '').trim(), like = parameters.get('like'), match = parameters.get('match');
    if (Object.hasOwn(MATCHES, match)) ask({ match }, { push: false });
    else if (text) ask({ text }, { push: false });
    else if (like) askLike(like, { push: false });
    else home(false);
  }

  // Hands ---------------------------------------------------------------------------------------------------------------------

  $('form').onsubmit = (event) => {
    event.preventDefault();
    const text = $('query').value.trim();
    if (text) ask({ text });
    else if (last && !last.text && !last.match) ask(last, { push: false });
    else $('query').focus();
  };
  $('home').onclick = (event) => { if (!event.metaKey && !event.ctrlKey) { event.preventDefault(); home(true); } };
  $('forget').onclick = () => home(true);
  $('retry').onclick = () => { if (last) ask(last, { push: false, size: limit }); };
  $('rescore').checked = stored('rescore') === 'on';
  $('rescore').onchange = () => { stored('rescore', $('rescore').checked ? 'on' : 'off'); if (last) ask(last, { push: false, size: limit }); };
  $('more').onclick = () => ask(last, { push: false, size: Math.min(MOST, limit * 2) });
  $('choose').onclick = () => $('file').click();
  $('file').onchange = () => { askFile($('file').files[0]); $('file').value = ''; };
  $('language').onclick = () => { language = language === 'zh' ? 'en' : 'zh'; stored('language', language); translate(); };

  const carries = (event) => event.dataTransfer && [...event.dataTransfer.types].some((type) => type === 'Files' || type === 'text/uri-list');
  addEventListener('dragenter', (event) => { if (carries(event)) { event.preventDefault(); $('drop').hidden = false; } });
  addEventListener('dragover', (event) => { if (carries(event)) { event.preventDefault(); event.dataTransfer.dropEffect = 'copy'; } });
  addEventListener('dragleave', (event) => { if (!event.relatedTarget) $('drop').hidden = true; });
  addEventListener('drop', (event) => {
    $('drop').hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    const own = `${location.origin}/v1/media/`, address = event.dataTransfer.getData('text/uri-list');
    if (event.dataTransfer.files.length) askFile(event.dataTransfer.files[0]);
    else if (address.startsWith(own)) askLike(decodeURIComponent(address.slice(own.length)));
  });
  addEventListener('paste', (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith('image/'));
    if (file) { event.preventDefault(); askFile(file); }
  });
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target === $('query');
    if (event.key === '/' && !typing) { event.preventDefault(); $('query').focus(); $('query').select(); }
    if (event.key === 'Escape') { $('drop').hidden = true; if (typing) $('query').value = ''; }
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 0, ArrowUp: 0 };
    const grid = event.target.closest && event.target.closest('.grid');
    if (!grid || !(event.key in steps)) return;
    const tiles = [...grid.querySelectorAll('.tile > button')], at = tiles.indexOf(event.target);
    const across = getComputedStyle(grid).gridTemplateColumns.split(' ').length;
    const next = tiles[at + (steps[event.key] || (event.key === 'ArrowDown' ? across : -across))];
    if (next) { event.preventDefault(); next.focus(); }
  });
  addEventListener('popstate', follow);

  // The generation that is made ready beside the live one, looked at every few seconds.
  async function rollout() {
    const said = language === 'zh'
      ? { filling: '新模型填充中', verifying: '新模型校验中', left: (s) => `约剩 ${s}` }
      : { filling: 'new model being filled', verifying: 'new model being checked', left: (s) => `about ${s} left` };
    const response = document.hidden ? null : await call('/v1/generations').catch(() => null);
    const { generations = [] } = response && response.ok ? await response.json() : {};
    const next = generations.find(({ state }) => state === 'filling' || state === 'verifying');
    const time = (s) => (s < 90 ? `${s} s` : `${Math.ceil(s / 60)} min`);
    $('rollout').textContent = next ? [`${said[next.state]} ${next.bundle} (${next.fingerprint.slice(0, 12)})`,
      next.progress !== undefined && `${Math.floor(100 * next.progress)} %`,
      next.eta_seconds > 0 && said.left(time(next.eta_seconds))].filter(Boolean).join(' · ') : '';
    $('rollout').hidden = !next;
    setTimeout(rollout, 3000);
  }

  translate();
  // Who wants re-ranking waits for word of whether the daemon does it.
  const waits = $('rescore').checked;
  if (!waits) follow();
  const learn = () => call('/v1/info').then((response) => (response.ok ? response.json() : Promise.reject(response))).then((json) => {
    info = json;
    facts();
    chips();
    $('switch').hidden = !info.rescore_candidates_max;
    $('key').hidden = true;
  }).catch(() => {});
  $('key').onsubmit = (event) => {
    event.preventDefault();
    key = $('key-value').value.trim();
    $('key-value').value = '';
    try { sessionStorage.setItem('key', key); } catch { /* asked for again */ }
    learn().then(() => { if (info && last) ask(last, { push: false, size: limit }); });
  };
  learn().then(() => {
    if (info && info.rolls_out) rollout();
    if ($('switch').hidden) $('rescore').checked = false;
    if (waits && !last && !$('query').value) follow();
  });
})();
