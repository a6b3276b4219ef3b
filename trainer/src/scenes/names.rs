//! Names of what scenes are composed of: emoji that one can tell apart, count and tint, by their usual Chinese names.

/// The built-in list. Left out: faces, gestures, signs, clocks, moons, what comes in near doubles (猫 and 猫脸), and what has a colour in
/// its name (黄瓜), which would contradict a tint.
pub const NAMES: &str = "考拉 蛇 蝎子 熊 松树 狮子 蟋蟀 大猩猩 向日葵 幼苗 鸭子 企鹅 小鸡 毛毛虫 棕榈树 青蛙 蘑菇 郁金香 狼 蜜蜂 鲨鱼 野猪 兔子 \
     猫 蚂蚁 龟 河豚 海螺 鳄鱼 老鼠 狗 猪 瓢虫 蟹 鹿 蝙蝠 枫叶 双峰骆驼 四叶草 鹰 蜗牛 老虎 猴子 玫瑰 龙 虾 海豚 山羊 乌贼 蜘蛛网 热带鱼 松鼠 大象 \
     仙人掌 狐狸 豹子 马 爪印 火鸡 犀牛 熊猫 蝴蝶结 披萨 冰淇淋 汉堡 奶瓶 面包 煎蛋 草莓 糖 胡萝卜 薯条 刀叉 饭团 甜甜圈 菠萝 寿司 茄子 爆米花 玉米 \
     生日蛋糕 香蕉 西瓜 羊角面包 巧克力 柠檬 西红柿 栗子 猕猴桃 樱桃 花生 鳄梨 热狗 梨 桃 葡萄酒 火箭 独木舟 帆船 摩托车 雪人 火车 雨伞 自行车 房子 火山 锚 \
     飞机 直升机 救护车 消防车 警车 出租车 公交车 赛车 拖拉机 滑板车 卫星 雪花 教堂 工厂 太阳 星星 水滴 手表 秒表 彗星 旋转木马 摩天轮 座位 快艇 货车 \
     温度计 气球 篮球 圣诞树 礼物 南瓜灯 足球 棒球 网球 排球 骰子 调色盘 奖牌 运动背心 风铃 乒乓球 羽毛球 保龄球 画笔 吉他 信封 马桶 门 收音机 手机 链条 \
     药丸 手提包 回形针 唇膏 棺材 床 锤子 小提琴 蜡烛 眼镜 灯泡 垃圾桶 戒指 和服 打印机 电视机 耳机 小号 匕首 窗户 键盘 相机 望远镜 齿轮 注射器 墨镜 \
     显微镜 麦克风 书包 牛仔裤 皇冠 钥匙 连衣裙 浴缸 扳手 铃铛 购物车 盾牌 电池 笔记本 宝石 钱袋 公文包 高跟鞋 机器人 鬼 骷髅";
